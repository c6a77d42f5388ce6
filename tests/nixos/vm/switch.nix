# Changes on a running system.
{
  name = "imp-mount-switch";

  nodes.machine = {
    imports = [ ./store.nix ];
    imp-mount.enable = true;
    environment.persistence."/persist".directories = [
      "/var/lib/nixos"
      "/srv/stays"
      "/srv/goes"
    ];
    specialisation.other.configuration = {
      environment.persistence."/persist".directories = [ "/srv/comes" ];
    };
    specialisation.less.configuration =
      { lib, ... }:
      {
        environment.persistence."/persist".directories = lib.mkForce [
          "/var/lib/nixos"
          "/srv/stays"
        ];
      };
  };

  testScript = ''
    machine.wait_for_unit("multi-user.target")
    mounts = "findmnt -rno TARGET,ID | grep -E '^/(srv|var)'"
    switch = "/run/booted-system/{}bin/switch-to-configuration test >&2"
    before = machine.succeed(mounts)

    # Nothing changes: not one mount id does.
    machine.succeed(switch.format(""))
    assert machine.succeed(mounts) == before

    machine.succeed(switch.format("specialisation/other/"))
    machine.succeed("echo new > /srv/comes/file; test -e /persist/srv/comes/file")
    after = machine.succeed(mounts)
    assert set(before.splitlines()) < set(after.splitlines())

    machine.succeed("echo old > /srv/goes/file")
    machine.succeed(switch.format("specialisation/less/"))
    machine.fail("findmnt /srv/goes")
    machine.succeed("grep old /persist/srv/goes/file")
    machine.succeed("findmnt /srv/stays")
  '';
}
