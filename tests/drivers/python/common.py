"""What the programs of this folder share: their settings, and how they print what they see."""

import os
import sys
import zlib
from pathlib import Path

HOST = os.environ["DRIVER_HOST"]
PORT = int(os.environ["DRIVER_PORT"])
ACCOUNT = (os.environ["DRIVER_USER"], os.environ["DRIVER_PASSWORD"])
OTHER_ACCOUNT = (os.environ["DRIVER_OTHER_USER"], os.environ["DRIVER_OTHER_PASSWORD"])
SCHEMA = os.environ["DRIVER_SCHEMA"]
CA = os.environ["DRIVER_CA"]  # empty: without TLS
COMPRESS = os.environ["DRIVER_COMPRESS"] == "1"
MODE = os.environ["DRIVER_MODE"]  # unbound or bound
BEGIN = os.environ["DRIVER_BEGIN"]  # bound only; empty: leave it out
END = os.environ["DRIVER_END"]
SQL = Path(os.environ["DRIVER_SQL"])
TMP = Path(os.environ["DRIVER_TMP"])

MIB = 1024 * 1024


def sql(name):
    """One of the statements that all languages share."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def section(name):
    print(f"== {name}")


def text(value):
    """A value with its type; long ones as length and checksum."""
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(text(v) for v in value) + ")"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {text(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, (set, frozenset)):
        return f"set {sorted(value)!r}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        if len(value) > 100:
            return f"bytes of length {len(value)}, crc {zlib.crc32(value)}"
        return f"bytes {value.hex()}"
    if isinstance(value, str) and len(value) > 300:
        return f"str of length {len(value)}, crc {zlib.crc32(value.encode())}"
    return f"{type(value).__name__} {value!r}"


def show(label, value):
    print(f"{label}: {text(value)}")


def show_error(label, error):
    """What the driver tells of an error."""
    state = getattr(error, "sqlstate", None)
    print(f"{label}: {type(error).__name__} {error.args!r} state {state!r}")


def expect_error(label, kind, action):
    """The action has to fail with an error of this kind."""
    try:
        action()
    except kind as error:
        show_error(label, error)
    else:
        sys.exit(f"{label}: no error")


def blob(length):
    """Bytes of every value, quotes and backslashes among them."""
    return (bytes(range(256)) * (length // 256 + 1))[:length]


def done():
    print("== end")
