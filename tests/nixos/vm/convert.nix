# The current root's disk becomes the store, and the earlier generation still boots from this disk.
{
  name = "imp-mount-convert";

  nodes.machine = {
    imports = [ ../machines/converted.nix ];
    virtualisation.useBootLoader = true;
    virtualisation.useEFIBoot = true;
    virtualisation.mountHostNixStore = false;
    boot.loader.systemd-boot.enable = true;
    boot.loader.timeout = 0;
  };

  testScript = ''
    machine.start(allow_reboot=True)
    machine.wait_for_unit("multi-user.target")
    assert machine.succeed("findmnt -no FSTYPE /").strip() == "ext4"
    machine.succeed("mkdir -p /srv /unnamed; echo kept > /srv/file; echo there > /unnamed/file")
    machine.succeed("bootctl set-default '*specialisation-converted.conf'; sync")

    machine.reboot()
    machine.wait_for_unit("multi-user.target")
    assert machine.succeed("findmnt -no FSTYPE /").strip() == "tmpfs"
    machine.succeed("imp-mount --check >&2")
    machine.succeed("grep kept /srv/file; grep there /persist/unnamed/file; test ! -e /unnamed")
    machine.fail("systemctl list-units --failed --plain --no-legend | grep .")
    machine.succeed("echo new > /srv/new; bootctl set-default '@saved'; bootctl set-default '''; sync")

    machine.reboot()
    machine.wait_for_unit("multi-user.target")
    assert machine.succeed("findmnt -no FSTYPE /").strip() == "ext4"
    machine.succeed("grep new /srv/new; grep there /unnamed/file")
  '';
}
