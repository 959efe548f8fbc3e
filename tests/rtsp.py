"""An RTSP server for tests: it hands on the RTP packets that a real ffmpeg process sends, within the TCP connection."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class RtspServer:
    """Serves a video in MPEG-TS, from its beginning to each connection, in real time; `drop` closes the connections.

    Only TCP is offered. requests: first lines of all requests. redirect: address to which DESCRIBE leads instead. credentials:
    what was sent as Authorization.
    """

    def __init__(self, video: Path) -> None:
        self.video = video
        self.requests: list[str] = []
        self.redirect: str | None = None
        self.credentials: list[str] = []
        self.accepting = True
        self.asks_password = False
        self._connections: list[socket.socket] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"rtsp://127.0.0.1:{self.port}/camera"
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """Send nothing more; the connections stay open."""
        for process in self._processes:
            process.kill()

    def drop(self) -> None:
        """Close all connections, as a camera does that is switched off."""
        self.silence()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def close(self) -> None:
        self._listening.close()
        self.drop()
        for process in self._processes:
            process.wait()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                if not self.accepting:
                    connection.close()
                    continue
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiving.bind(("127.0.0.1", 0))
        with suppress(OSError, ValueError), receiving, connection, connection.makefile("rb") as file:
            while line := file.readline().decode():
                if not line.strip():
                    continue
                self.requests.append(line.strip())
                headers = {}
                while (header := file.readline().decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                method, url, _ = line.split()
                status, extra, body = self._answer(method, url, headers)
                head = [f"RTSP/1.0 {status}", f"CSeq: {headers['cseq']}", *extra, f"Content-Length: {len(body)}", "", ""]
                connection.sendall("\r\n".join(head).encode() + body)
                if method == "PLAY":
                    threading.Thread(target=self._play, args=(connection, receiving.dup()), daemon=True).start()

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> tuple[str, list[str], bytes]:
        if "authorization" in headers:
            self.credentials.append(headers["authorization"])
        elif self.asks_password and method == "DESCRIBE":
            return "401 Unauthorized", ['WWW-Authenticate: Basic realm="camera"'], b""
        sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
        sdp += "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
        if method == "DESCRIBE":
            if self.redirect is not None:
                return "302 Found", [f"Location: {self.redirect}"], b""
            return "200 OK", ["Content-Type: application/sdp", f"Content-Base: {url}/"], sdp.encode()
        extra = {
            "OPTIONS": ["Public: DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"],
            "SETUP": ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"],
        }
        return "200 OK", extra.get(method, ["Session: 1"]), b""

    def _play(self, connection: socket.socket, receiving: socket.socket) -> None:
        port = receiving.getsockname()[1]
        command = ["ffmpeg", "-v", "error", "-re", "-i", str(self.video), "-an", "-c", "copy"]
        self._processes.append(subprocess.Popen([*command, "-f", "rtp", f"rtp://127.0.0.1:{port}?pkt_size=1400"], stdout=-3))
        with suppress(OSError), receiving:
            while True:
                packet = receiving.recv(65536)
                connection.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)


@contextmanager
def rtsp_server(video: Path) -> Iterator[RtspServer]:
    server = RtspServer(video)
    try:
        yield server
    finally:
        server.close()
