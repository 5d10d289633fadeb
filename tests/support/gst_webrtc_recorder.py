"""A WebRTC recorder that is not ours: GStreamer's webrtcbin, writing pictures as one fragmented MP4 file
and sound as an Ogg file beside it.

Prints one JSON line {"offer": ...}, reads one {"answer": ...}, and records into the folder that is its
argument until its stdin closes.
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
folder = sys.argv[1]
loop = GLib.MainLoop()
pipeline = Gst.Pipeline.new()
peer = Gst.parse_launch("webrtcbin bundle-policy=max-bundle latency=200")
pipeline.add(peer)
# Times by the RTP time stamps alone: what is made up for a sender that catches up runs out of times.
peer.get_by_name("rtpbin").set_property("buffer-mode", "none")
kept = {}


def on_pad(_, pad):
    kind = pad.get_current_caps().get_structure(0).get_string("media")
    way = Gst.parse_bin_from_description(
        f"rtph264depay ! h264parse ! queue ! mp4mux fragment-duration=1000 ! filesink location={folder}/g.mp4"
        if kind == "video"
        else f"rtpopusdepay ! queue ! oggmux ! filesink location={folder}/g.ogg",
        True,
    )
    pipeline.add(way)
    way.sync_state_with_parent()
    pad.link(way.get_static_pad("sink"))


def on_gathering(*_):
    if peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
        print(json.dumps({"offer": peer.get_property("local-description").sdp.as_text()}), flush=True)


def on_offer(promise, *_):
    promise.wait()
    # Kept: what is in a reply goes with it.
    kept["promise"] = promise
    kept["reply"] = promise.get_reply()
    kept["offer"] = kept["reply"].get_value("offer")
    peer.emit("set-local-description", kept["offer"], Gst.Promise.new())


def start():
    recvonly = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
    for caps in (
        "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,"
        "encoding-params=(string)2",
        "application/x-rtp,media=video,encoding-name=H264,payload=98,clock-rate=90000,"
        "packetization-mode=(string)1,rtcp-fb-nack=true,rtcp-fb-nack-pli=true",
    ):
        peer.emit("add-transceiver", recvonly, Gst.Caps.from_string(caps)).set_property("do-nack", True)
    peer.emit("create-offer", None, Gst.Promise.new_with_change_func(on_offer, None))
    return False


def on_answer(text):
    _, message = GstSdp.SDPMessage.new_from_text(text)
    answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
    peer.emit("set-remote-description", answer, Gst.Promise.new())
    return False


def read_stdin():
    GLib.idle_add(on_answer, json.loads(sys.stdin.readline())["answer"])
    sys.stdin.read()
    GLib.idle_add(lambda: pipeline.send_event(Gst.Event.new_eos()) and False)


def on_message(_, message):
    if message.type == Gst.MessageType.ERROR:
        print(str(message.parse_error()), file=sys.stderr, flush=True)
        loop.quit()
    elif message.type == Gst.MessageType.EOS:
        loop.quit()


bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message", on_message)
peer.connect("notify::ice-gathering-state", on_gathering)
peer.connect("pad-added", on_pad)
threading.Thread(target=read_stdin, daemon=True).start()
pipeline.set_state(Gst.State.PLAYING)
GLib.timeout_add(300, start)
loop.run()
pipeline.set_state(Gst.State.NULL)
