# Entries of home-manager: its users' own paths, their groups, and errors in them.
{
  imports = [
    ./common.nix
    ./store.nix
    ../home-manager.nix
  ];
  imp-mount.enable = true;
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
    ];
    users.ada.directories = [ "Documents" ];
  };
  users.groups.staff.gid = 900;
  users.users.bob = {
    isNormalUser = true;
    group = "staff";
    home = "/srv/bob";
  };
  home-manager.users.bob = {
    home.persistence."/persist" = {
      allowTrash = true;
      directories = [
        "films"
        {
          directory = "shared";
          group = "users";
          mode = "2770";
        }
      ];
      files = [ ".config/x" ];
    };
    home.persistence.off = {
      enable = false;
      persistentStoragePath = "/elsewhere";
      directories = [ "off" ];
    };
  };
  home-manager.users.ada.home.persistence."/persist/home/ada".directories = [ "Documents" ];
}
