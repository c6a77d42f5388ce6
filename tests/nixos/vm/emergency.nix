# A failed required entry stops the boot in the emergency shell, before any service has run.
{
  name = "imp-mount-emergency";

  nodes.machine = {
    imports = [ ./store.nix ];
    imp-mount.enable = true;
    environment.persistence."/persist".directories = [
      "/var/lib/nixos"
      "/srv/media"
    ];
  };

  testScript = ''
    machine.start(allow_reboot=True)
    machine.wait_for_unit("multi-user.target")
    # A file where the directory is to be.
    machine.succeed("umount /srv/media; rmdir /persist/srv/media; touch /persist/srv/media; sync")
    machine.succeed("touch /persist/before")
    machine.reboot()
    machine.wait_for_console_text("/srv/media")
    machine.wait_for_console_text("[Ee]mergency")
  '';
}
