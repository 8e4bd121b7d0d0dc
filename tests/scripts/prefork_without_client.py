"""A spawn server whose client has gone when it is to fork: run with -X dev, it says nothing."""

import os
from socket import AF_UNIX, SOCK_SEQPACKET, socketpair

from goproc._start import prefork


def serve():
    client, server = socketpair(AF_UNIX, SOCK_SEQPACKET)
    client.send(prefork._REQUEST.pack(prefork._FORK, 0, 0))
    client.close()
    assert prefork.Server(server.detach(), True, None).serve() is None


if __name__ == "__main__":
    if os.fork() == 0:  # as its parent gets the server's siblings
        serve()
        raise SystemExit
    codes = []
    try:
        while True:
            codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
    except ChildProcessError:
        pass
    assert codes == [0, 0], codes
