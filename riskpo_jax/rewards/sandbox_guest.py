"""The program inside the sandbox: loads a model's code and answers calls with plain values.

Nothing here is trusted by the other side, since the model's code shares this process: it can say
what it likes, but it knows no expected value. This text is sent to the interpreter behind that of
`wire`, whose names it uses; arguments are two file descriptors and the limits as JSON.
"""

import json
import os
import resource
import sys
import types

from riskpo_jax.rewards.wire import decode, encode, pack, unpack  # DROP: defined above


def main(argv=sys.argv):
    requests, replies = int(argv[1]), int(argv[2])
    os.environ.clear()
    for name, value in json.loads(argv[3]).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    _send(replies, ["ready"])
    message = _receive(requests)
    if message[1] == "main":
        os.close(requests)
        os.close(replies)
        _run("__main__", message[2])
    else:
        _serve(requests, replies, message)


def _run(name, source):
    """Run a program's text as the module `name`."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def _serve(requests, replies, message):
    """Answer [nonce, operation, ...] with [nonce, "value", value] or [nonce, "raised", types, text]."""
    objects = []
    namespace = {}

    def handle(thing):
        objects.append(thing)
        return len(objects) - 1

    def load(source):
        namespace.update(_run("solution", source))

    def call(data):
        function, args, kwargs = decode(data, objects.__getitem__)
        return function(*args, **kwargs)

    operations = {
        "load": load,
        "get": lambda name: namespace[name],
        "attribute": lambda number, name: getattr(objects[number], name),
        "call": call,
    }
    while message:
        nonce, operation, *content = message
        try:
            reply = [nonce, "value", encode(operations[operation](*content), handle)]
        except BaseException as error:  # SystemExit, too, is no way out
            types_of_it = [kind.__name__ for kind in type(error).__mro__]
            reply = [nonce, "raised", types_of_it, _text(error)]
        _send(replies, reply)
        message = _receive(requests)


def _text(error):
    try:
        return str(error)[:200]
    except BaseException:
        return ""


def _send(descriptor, data):
    message = pack(data)
    while message:
        message = message[os.write(descriptor, message) :]


def _receive(descriptor):
    """The next request, None at the end."""
    length = int.from_bytes(_read(descriptor, 4), "big")
    return unpack(_read(descriptor, length)) if length else None


def _read(descriptor, length):
    parts = []
    while length and (part := os.read(descriptor, min(length, 1 << 16))):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main()
