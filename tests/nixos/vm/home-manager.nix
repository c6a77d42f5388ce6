# Entries in home-manager's own configuration. `homeManager` is its NixOS module.
{ homeManager }:
{
  name = "imp-mount-home-manager";

  nodes.machine =
    { config, ... }:
    {
      imports = [
        ./store.nix
        homeManager
      ];
      imp-mount.enable = true;
      environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
      home-manager.users.ada = {
        home.stateVersion = config.system.stateVersion;
        home.persistence."/persist" = {
          directories = [
            "Documents"
            ".local/share/app"
          ];
          files = [ ".screenrc" ];
        };
      };
    };

  testScript = ''
    machine.start(allow_reboot=True)
    machine.wait_for_unit("multi-user.target")
    machine.succeed("imp-mount --check >&2")
    assert machine.succeed("stat -c '%a %U:%G' /home/ada/.local /home/ada/Documents").split("\n")[:2] == [
        "755 ada:users",
        "755 ada:users",
    ]
    machine.succeed("sudo -u ada sh -c 'echo kept > ~/Documents/file; echo kept > ~/.screenrc'")
    machine.shutdown()
    machine.start(allow_reboot=True)
    machine.wait_for_unit("multi-user.target")
    machine.succeed("grep kept /home/ada/Documents/file /home/ada/.screenrc")
  '';
}
