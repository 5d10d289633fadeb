"""GStreamer's RTSP server, as a camera that is not ours.

    gst_rtsp_server.py '{"streams": {"/path": "launch line"}, "user": …, "password": …,
                         "digest": "md5", "cert": "file.pem", "protocols": "tcp"}'

Prints "PORT n" when it serves, on a free port of 127.0.0.1, until its stdin is closed.
"""
import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

options = json.loads(sys.argv[1])
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(str(options.get("port", 0)))
mounts = server.get_mount_points()
user = options.get("user")
for path, launch in options["streams"].items():
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.set_shared(options.get("shared", True))
    factory.set_latency(0)
    if options.get("protocols") == "udp":
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    if options.get("protocols") == "tcp":
        factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP)
    if user:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role("viewer")
        structure = Gst.Structure.new_from_string(
            "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true;"
        )
        permissions.add_role_from_structure(structure)
        factory.set_permissions(permissions)
    mounts.add_factory(path, factory)
if user or options.get("cert"):
    auth = GstRtspServer.RTSPAuth()
    if user:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if options.get("digest"):
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, options["password"], token)
        else:
            basic = GstRtspServer.RTSPAuth.make_basic(user, options["password"])
            auth.add_basic(basic, token)
    if options.get("cert"):
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(options["cert"]))
    server.set_auth(auth)
server.attach(None)
print("PORT", server.get_bound_port(), flush=True)
loop = GLib.MainLoop()


def wait_for_end():
    sys.stdin.read()
    loop.quit()


threading.Thread(target=wait_for_end, daemon=True).start()
loop.run()
