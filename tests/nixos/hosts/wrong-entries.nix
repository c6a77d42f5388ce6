# Entries that cannot persist, or not as they are written; warnings of files; users without a declaration or a home.
{
  imports = [
    ../home-manager.nix
    ./common.nix
    ./store.nix
  ];
  imp-mount.enable = true;
  environment.etc."declared.conf".text = "";
  users.users.homeless = {
    isSystemUser = true;
    group = "users";
  };
  users.users.packaged = {
    isSystemUser = true;
    group = "users";
    # As a package.
    home = {
      outPath = "/package";
    };
  };
  home-manager.users.ada.home.persistence."/persist/home/ada" = { };
  preservation.enable = true;
  preservation.preserveAt."/persist".users.unknown.directories = [ "x" ];
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
      "/var/../etc"
      ""
      "/run/app"
      "/persist/var"
      "/"
      "/srv/file"
      "/var/lib/containers*"
      "~/Documents"
      "$HOME/Documents"
      "\${XDG_DATA_HOME}/app"
      " /var/lib/space"
      "/var/lib/line\n"
      "/etc/static"
      "/var/run/app"
      "/var/lock"
      "/etc/machine-id"
      # These are right.
      "/srv/a b"
      "/srv/$RECYCLE.BIN"
      "/srv/~old"
      "/home/bob/home/ada"
    ];
    files = [
      "/srv/file"
      "/var/lib/bluetooth"
      "/var/log"
      "/bin/sh"
      "/etc/declared.conf"
      "/etc/passwd"
      {
        file = "/etc/shadow";
        method = "copy";
      }
      {
        file = "/etc/other-id";
        missing = "machine-id";
      }
    ];
    users.ada.directories = [ "/home/ada/Music" ];
    users.homeless.directories = [ "x" ];
    users.packaged.directories = [ "x" ];
    users.missing.directories = [ "x" ];
  };
}
