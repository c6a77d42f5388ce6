# A read-only overlay on /etc, with mounted files and directories.
{
  name = "imp-mount-etc-overlay";

  nodes.machine = {
    imports = [ ./store.nix ];
    system.etc.overlay.enable = true;
    system.etc.overlay.mutable = false;
    services.userborn.enable = true;
    users.mutableUsers = false;
    imp-mount.enable = true;
    environment.persistence."/persist" = {
      directories = [
        "/var/lib/nixos"
        "/etc/NetworkManager/system-connections"
      ];
      files = [
        "/etc/machine-id"
        {
          file = "/etc/secret";
          missing = "create";
          mode = "0600";
        }
      ];
    };
  };

  testScript = ''
    machine.start(allow_reboot=True)
    machine.wait_for_unit("multi-user.target")
    machine.succeed("imp-mount --check >&2")
    machine.succeed("echo kept > /etc/secret; echo kept > /etc/NetworkManager/system-connections/wifi")
    id = machine.succeed("cat /etc/machine-id")
    machine.reboot()
    machine.wait_for_unit("multi-user.target")
    machine.succeed("grep kept /etc/secret /etc/NetworkManager/system-connections/wifi")
    assert machine.succeed("cat /etc/machine-id") == id
    machine.fail("touch /etc/new")
  '';
}
