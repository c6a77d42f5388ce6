# Users created by a service: entries created for them on a first boot belong to them by its end, with the same id
# after a user before them in the sort order is added.
{
  name = "imp-mount-userborn";

  nodes.machine = {
    imports = [
      ./store.nix
      ../machines/userborn.nix
    ];
  };

  testScript = ''
    machine.start(allow_reboot=True)
    machine.wait_for_unit("multi-user.target")
    owner = "stat -c '%a %U:%G %u' /var/lib/zoe"
    before = machine.succeed(owner)
    assert before.startswith("750 zoe:zoe"), before
    machine.succeed("/run/booted-system/specialisation/more/bin/switch-to-configuration test >&2")
    assert machine.succeed(owner) == before
    machine.reboot()
    machine.wait_for_unit("multi-user.target")
    assert machine.succeed(owner) == before
  '';
}
