# Users and groups whose names are not those of their attributes: owners are their names.
{
  imports = [
    ./common.nix
    ./store.nix
    ../home-manager.nix
  ];
  imp-mount.enable = true;
  # In /etc it finds no ids.
  services.userborn.enable = true;
  users.users.ada.name = "countess";
  users.users.bob = {
    name = "robert";
    isNormalUser = true;
    group = "builders";
    uid = 1001;
  };
  users.users.carol = {
    name = "caroline";
    isNormalUser = true;
    home = "/srv/carol";
  };
  users.groups.staff = {
    name = "builders";
    gid = 900;
  };
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
      {
        directory = "/srv/declared";
        user = "countess";
        group = "builders";
      }
      {
        directory = "/srv/unknown";
        user = "ada";
        group = "staff";
      }
    ];
    files = [
      {
        file = "/home/robert/.config/z";
        user = "robert";
        group = "builders";
        mode = "0600";
      }
    ];
    users.ada.directories = [ "Documents" ];
    users.ada.files = [ ".ssh/id" ];
    # Homes as a whole.
    users.carol.directories = [ "." ];
  };
  home-manager.users.bob.home.persistence."/persist".directories = [ "films" ];
  preservation.enable = true;
  preservation.preserveAt."/persist".users.bob = {
    directories = [ "music" ];
    files = [ ".config/x/y" ];
  };
}
