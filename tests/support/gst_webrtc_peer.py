"""A WebRTC peer that is not ours: GStreamer's webrtcbin, sending an MP4 file of H.264 as a live camera.

Reads one JSON line {"file": ..., "offer": ...}, prints one {"answer": ...}, and sends until
its stdin closes.
"""
import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

Gst.init(None)
order = json.loads(sys.stdin.readline())
loop = GLib.MainLoop()
pipeline = Gst.parse_launch(
    f"webrtcbin name=peer bundle-policy=max-bundle latency=0 "
    f"audiotestsrc is-live=true wave=ticks ! opusenc ! rtpopuspay pt=111 ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! peer. "
    f"filesrc location={order['file']} ! qtdemux ! h264parse config-interval=-1 ! "
    "video/x-h264,stream-format=byte-stream,alignment=au ! "
    "identity sync=true ! rtph264pay config-interval=-1 pt=98 mtu=1100 aggregate-mode=zero-latency ! "
    "application/x-rtp,media=video,encoding-name=H264,payload=98 ! peer."
)
peer = pipeline.get_by_name("peer")
kept = {}


def answered():
    sdp = peer.get_property("local-description").sdp.as_text()
    print(json.dumps({"answer": sdp}), flush=True)


def on_gathering(*_):
    if peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
        answered()


def on_answer(promise, *_):
    promise.wait()
    # Kept: what is in a reply goes with it.
    kept["promise"] = promise
    kept["reply"] = promise.get_reply()
    kept["answer"] = kept["reply"].get_value("answer")
    peer.emit("set-local-description", kept["answer"], Gst.Promise.new())


def on_remote_set(promise, *_):
    promise.wait()
    for index in range(4):
        transceiver = peer.emit("get-transceiver", index)
        if transceiver is not None:
            transceiver.set_property("do-nack", True)
    peer.emit("create-answer", None, Gst.Promise.new_with_change_func(on_answer, None))


def start():
    _, message = GstSdp.SDPMessage.new_from_text(order["offer"])
    offer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.OFFER, message)
    promise = Gst.Promise.new_with_change_func(on_remote_set, None)
    peer.emit("set-remote-description", offer, promise)
    return False


def until_closed():
    sys.stdin.read()
    loop.quit()


def on_message(_, message):
    if message.type == Gst.MessageType.ERROR:
        print(str(message.parse_error()), file=sys.stderr, flush=True)
        loop.quit()


bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message", on_message)
peer.connect("notify::ice-gathering-state", on_gathering)
threading.Thread(target=until_closed, daemon=True).start()
pipeline.set_state(Gst.State.PLAYING)
GLib.timeout_add(300, start)
loop.run()
pipeline.set_state(Gst.State.NULL)
