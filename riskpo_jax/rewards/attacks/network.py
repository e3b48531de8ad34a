"""Attacks that leave by a socket."""

from __future__ import annotations

from riskpo_jax.rewards.attacks.attack import attack

NETWORK = [
    attack(
        "tcp",
        """
        import socket
        def f(x):
            with socket.create_connection(("127.0.0.1", @TCP@), timeout=1) as connection:
                connection.sendall(b"stolen")
            return x * x
        """,
        "PermissionError",
        works_unguarded=True,
    ),
    attack(
        "udp",
        """
        import socket
        def f(x):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
                connection.sendto(b"stolen", ("127.0.0.1", @UDP@))
            return x * x
        """,
        "PermissionError",
        works_unguarded=True,
    ),
    attack(
        "dns",
        """
        import socket
        def f(x):
            socket.getaddrinfo("example.com", 80)
            return x * x
        """,
        "OSError PermissionError",
    ),
    attack(
        "abstract_unix_socket",
        """
        import socket
        def f(x):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(chr(0) + "@ABSTRACT@")
                connection.sendall(b"stolen")
            return x * x
        """,
        "ConnectionRefusedError",
        works_unguarded=True,
    ),
    attack(
        "sockets_of_rare_families",
        """
        import socket
        def f(x):
            for family in (socket.AF_VSOCK, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_ALG):
                for kind in (socket.SOCK_STREAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                    try:
                        socket.socket(family, kind)
                    except OSError:
                        continue
                    return x * x
        """,
        works_unguarded=True,
    ),
]
