# A first boot on an empty store, and the next boot: entries are the same, and all other files are gone.
{
  name = "imp-mount-boot";

  nodes.machine = {
    imports = [
      ./store.nix
      ../machines/every-kind.nix
    ];
  };

  testScript = ''
    machine.start(allow_reboot=True)

    def same():
        machine.wait_for_unit("multi-user.target")
        machine.wait_for_unit("sshd.service")
        machine.succeed("imp-mount --check >&2")
        assert machine.succeed("findmnt -no FSTYPE /").strip() == "tmpfs"
        assert len(set(machine.succeed("cat /run/during-activation").split())) == 1
        for path, mode in {
            "/var/lib/private": "700 root:root",
            "/var/lib/private/app": "755 root:root",
            "/var/lib/app": "750 app:app",
            "/srv/with space": "755 root:root",
            "/home/ada/.config/app": "755 ada:users",
            "/home/ada/.ssh": "700 ada:users",
        }.items():
            assert machine.succeed(f"stat -c '%a %U:%G' '{path}'").strip() == mode, path
            inodes = machine.succeed(f"stat -c '%d %i' '{path}' '/persist{path}'").splitlines()
            assert inodes[0] == inodes[1], path
        assert machine.succeed("stat -c '%a %U:%G' /home/ada /home/ada/.config").split("\n")[:2] == [
            "750 ada:users",
            "755 ada:users",
        ]
        machine.fail("systemctl list-units --failed --plain --no-legend | grep .")
        return machine.succeed("cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub")

    same()
    machine.succeed("sudo -u ada sh -c 'echo kept > ~/.screenrc; echo gone > ~/gone'")
    machine.succeed("echo gone > /var/lib/gone")
    machine.succeed("uid=$(id -u app); echo $uid > /srv/with\\ space/uid")
    machine.shutdown()
    machine.start(allow_reboot=True)
    first = same()
    assert machine.succeed("cat /home/ada/.screenrc").strip() == "kept"
    machine.fail("test -e /home/ada/gone -o -e /var/lib/gone")
    machine.succeed("test $(id -u app) = $(cat /srv/with\\ space/uid)")

    machine.reboot()
    assert same() == first
    machine.fail("journalctl -b -1 | grep 'Failed unmounting'")
  '';
}
