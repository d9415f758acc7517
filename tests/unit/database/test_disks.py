"""What kind of disk a folder lies on, as the kernel's table of mounts tells it."""

from pathlib import Path

import pytest

from tableforge.database.disks import NETWORK, file_system, room_left

MOUNTS = r"""sysfs /sys sysfs rw 0 0
/dev/vda / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
nas:/export /srv nfs4 rw 0 0
/dev/vdb /srv/fast xfs rw 0 0
//nas/share /mnt/the\040share cifs rw 0 0
/dev/vdc /var/lib ext4 rw 0 0
overlay /var/lib overlay rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table of mounts."""
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/home/mara/data", "ext4"),
        ("/run/tableforge", "tmpfs"),
        ("/runner", "ext4"),
        ("/srv/tableforge/data", "nfs4"),
        ("/srv/fast/data", "xfs"),
        ("/mnt/the share/data", "cifs"),
        ("/var/lib/tableforge", "overlay"),
    ],
)
def test_the_nearest_and_last_mount_decides(folder: str, kind: str, mounts: Path) -> None:
    assert file_system(Path(folder), mounts) == kind


def test_network_file_systems_are_known() -> None:
    assert {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs"} <= NETWORK


def test_where_the_kernel_tells_nothing_the_kind_is_empty(tmp_path: Path) -> None:
    assert file_system(Path("/"), tmp_path / "none") == ""


def test_room_left_is_counted(tmp_path: Path) -> None:
    left = room_left(tmp_path)
    assert left.bytes > 0
    assert left.files > 0
