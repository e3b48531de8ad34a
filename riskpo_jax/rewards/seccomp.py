"""The system calls that a sandboxed program may not make, as a classic BPF filter for bubblewrap.

Namespaces hide what a program could attack; the filter takes away the means: tracing, mounting, new
namespaces, kernel keyrings, loading of code into the kernel, sockets of any family but AF_UNIX (a
virtual machine's AF_VSOCK, for one, is not hidden by a network namespace) and memory that no process
shows (memfd, System V shared memory), which would escape the watchdog. Numbers are those of the
kernel's tables arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import struct

# name: (x86-64, arm64), None where the architecture has no such call
DENIED = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    # file systems and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # code and keys in the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "modify_ldt": (154, None),
    # memory that no process shows
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # the machine
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    "personality": (135, 92),
}
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR, _IOCTL = (
    (56, 220),
    (435, 435),
    (41, 198),
    (53, 199),
    (16, 29),
)
_NEW_NAMESPACES = (
    0x7E020080  # CLONE_NEWUSER, NEWPID, NEWNET, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWTIME
)
_AF_UNIX = 1
_TERMINAL = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX write into a terminal's input
_X32 = 0x40000000  # numbers from here on are x86-64's second table, which repeats every call

# machine: (audit number, place in the pairs above)
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24  # places in struct seccomp_data, low words


def build(machine: str) -> bytes:
    """The filter for a machine as `os.uname().machine` names it. Raises KeyError for another one."""
    audit, place = MACHINES[machine]
    refuse = _statement(_RETURN, 0x00050000 | errno.EPERM)
    missing = _statement(_RETURN, 0x00050000 | errno.ENOSYS)
    program = [
        _statement(_LOAD, _ARCH),
        _jump(_EQUAL, audit, 1, 0),
        _statement(_RETURN, _KILL),
        _statement(_LOAD, _NUMBER),
        _jump(_AT_LEAST, _X32, 0, 1),
        missing,
        _jump(_EQUAL, _CLONE3[place], 0, 1),  # its flags lie in memory, out of reach: use clone
        missing,
    ]
    for numbers in DENIED.values():
        if numbers[place] is not None:
            program += [_jump(_EQUAL, numbers[place], 0, 1), refuse]
    program += _when(_CLONE[place], _FIRST, [_jump(_ANY_BIT, _NEW_NAMESPACES, 0, 1), refuse])
    for call in (_SOCKET, _SOCKETPAIR):
        program += _when(call[place], _FIRST, [_jump(_EQUAL, _AF_UNIX, 1, 0), refuse])
    for request in _TERMINAL:
        program += _when(_IOCTL[place], _SECOND, [_jump(_EQUAL, request, 0, 1), refuse])
    return b"".join([*program, _statement(_RETURN, _ALLOW)])


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _when(number: int, argument: int, rule: list[bytes]) -> list[bytes]:
    """Apply `rule` to an argument of one system call, then look at the call's number again."""
    body = [_statement(_LOAD, argument), *rule, _statement(_LOAD, _NUMBER)]
    return [_jump(_EQUAL, number, 0, len(body)), *body]
