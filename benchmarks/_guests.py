"""Machines that lose power: Linux kernels as plain processes (User-Mode Linux).

Each has a kernel, a page cache, a network card and disks of its own; its root is this machine's file
system, read-only, under a layer of memory. SIGKILL takes it as a power cut does, with all that was not
yet on a disk; SIGSTOP pauses it whole. Needs no root, no KVM and no network but a multicast group
that does not leave this machine. Debian: user-mode-linux, kmod; for a file server nfs-kernel-server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

MODULES = Path("/usr/lib/uml/modules")
MEMORY = "1500M"
INIT = """#!/bin/sh
export HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824  # page faults are dear here
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in overlay {modules}; do modprobe -d {work}/modules $module; done
mount -t tmpfs memory /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work root /mnt/root
cd /mnt/root
for each in proc sys dev; do mount --rbind /$each $each; done
mount -t tmpfs memory run
mkdir -p mnt/work
mount -t hostfs -o {work} work mnt/work
hostname {name}
ip link set lo up
ip address add {address}/24 dev eth0
ip link set eth0 up
{{ chroot . /bin/sh /mnt/work/{name}.sh; echo "{name} ends with $?"; }} 2>&1 | cat  # as no terminal
sync
echo o > /proc/sysrq-trigger
sleep 60
"""
FILE_SERVER = """
mkdir -p /export /var/lib/nfs
mount -t ext4 /dev/ubda /export
chmod 1777 /export
mount -t nfsd nfsd /proc/fs/nfsd
mount -t tmpfs memory /var/lib/nfs
mkdir /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
echo 10 > /proc/fs/nfsd/nfsv4gracetime
rpcbind -w
exportfs -o rw,sync,no_root_squash,no_subtree_check,fsid=0 10.0.0.0/24:/export
rpc.mountd
rpc.statd --no-notify
rpc.nfsd 4
echo ready
while :; do sleep 60; done
"""
MOUNTING = """
mount -t tmpfs memory /var/lib/nfs
mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /run/rpc_pipefs
rpcbind -w
rpc.statd --no-notify
mkdir -p /mnt/export
mount -t nfs -o vers={version} {address}:{place} /mnt/export || exit 1
"""


def missing(*, server: bool = False) -> str | None:
    """Return what keeps guests, one of them a file server, from being started here."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    needed = ["linux.uml", "modprobe", *(["mke2fs", "rpc.nfsd", "rpcbind"] if server else [])]
    if not MODULES.is_dir() or not all(shutil.which(name, path=path) for name in needed):
        return "needs User-Mode Linux (Debian: user-mode-linux, kmod, e2fsprogs, nfs-kernel-server)"
    return None


class Guest:
    """One machine. It runs a script, to be found with all else of `work` in its /mnt/work, and ends."""

    def __init__(self, name: str, number: int, work: Path, *, disk: Path | None = None, modules: str = ""):
        self.name, self.work, self.disk, self.modules = name, work, disk, modules
        self.number = number
        self.address = f"10.0.0.{number}"
        self.logs: list[Path] = []

    def boot(self, script: str) -> None:
        """Switch it on."""
        modules = self.work / "modules" / "lib" / "modules"
        if not modules.is_symlink():  # as modprobe looks for them
            modules.parent.mkdir(parents=True, exist_ok=True)
            modules.symlink_to(MODULES)
        (self.work / f"{self.name}.sh").write_text(script)
        init = self.work / f"{self.name}.init"
        init.write_text(
            INIT.format(name=self.name, address=self.address, work=self.work, modules=self.modules)
        )
        init.chmod(0o755)
        self.logs.append(self.work / f"{self.name}{len(self.logs)}.log")
        group = zlib.crc32(bytes(self.work))
        network = f"239.192.{group % 251}.1,{20000 + group % 20011},0"
        with self.logs[-1].open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("linux.uml", f"mem={MEMORY}", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}"),
                    *(
                        "con=null",
                        "con0=null,fd:1",
                        "ssl=null",
                        "panic=-1",
                        "loglevel=4",
                        f"uml_dir={self.work}",
                    ),
                    f"eth0=mcast,52:54:00:00:00:{self.number:02x},{network}",
                    *([f"ubd0={self.disk}"] if self.disk else []),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """All that it has said since it was switched on last."""
        return self.logs[-1].read_text(errors="replace").replace("\r", "")

    def wait_for(self, text: str) -> bool:
        """Wait until it says so; return whether it did."""
        while text not in self.said:
            if self.process.poll() is not None:
                return text in self.said
            time.sleep(0.05)
        return True

    def wait(self) -> int | None:
        """Wait for its end; return the script's exit code, None where the machine went before."""
        self.process.wait()
        code = self.said.rpartition(f"{self.name} ends with ")[2].split("\n")[0]
        return int(code) if code.isdigit() else None

    def send(self, number: signal.Signals) -> None:
        """Send the machine a signal: its kernel, and one that kills all its processes."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGKILL else os.kill)(self.process.pid, number)

    def cut_power(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()


def file_server(work: Path) -> Guest:
    """Return a machine that serves a new disk by NFS, once it is up."""
    disk = new_disk(work / "disk")
    server = Guest("server", 9, work, disk=disk, modules="nfsd")
    server.boot(FILE_SERVER)
    server.wait_for("ready")
    return server


def mounting(server: Guest, version: str) -> str:
    """Return the beginning of a script: it mounts what the server has as /mnt/export."""
    place = "/export" if version.startswith("3") else "/"
    return MOUNTING.format(version=version, address=server.address, place=place)


def new_disk(path: Path, mib: int = 512) -> Path:
    """Make an empty disk with ext4 as Linux makes it."""
    with path.open("wb") as file:
        file.truncate(mib << 20)
    mke2fs = shutil.which("mke2fs", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert mke2fs
    subprocess.run([mke2fs, "-q", "-t", "ext4", path], check=True)
    return path


@contextlib.contextmanager
def running(*guests: Guest) -> Iterator[None]:
    """Switch off at the end whatever of them is on."""
    try:
        yield
    finally:
        for guest in guests:
            if guest.logs:
                guest.cut_power()
