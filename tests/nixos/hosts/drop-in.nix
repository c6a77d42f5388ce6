# A configuration for nix-community/impermanence in every form, without an option of imp-mount.
{ lib, config, ... }:
{
  imports = [
    ./common.nix
    ./store.nix
    (lib.mkAliasOptionModule [ "my" "persistence" ] [ "environment" "persistence" "/persist" ])
  ];
  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
    options = [
      "size=25%"
      "mode=755"
    ];
  };
  fileSystems."/nix" = {
    device = "/dev/disk/by-label/nix";
    fsType = "ext4";
  };
  users.users.bob = {
    isNormalUser = true;
    home = "/srv/bob";
    group = "media";
  };
  users.groups.media.gid = 990;

  my.persistence.directories = [ "/via/alias" ];
  environment.persistence = lib.mkMerge [
    {
      "/persist" = {
        hideMounts = true;
        directories = [
          "/var/lib/nixos"
          "var//lib/colord/"
          (lib.mkIf false "/never")
          (lib.mkIf true {
            directory = "/var/lib/plex";
            user = "568";
            group = "media";
            mode = "u=rwx,g=rx,o=";
          })
          {
            directory = "/var/lib/private";
            mode = "0700";
          }
          "/var/lib/private/app"
          {
            directory = "/var/lib/other";
            persistentStoragePath = "/persist/other";
            hideMount = false;
            allowTrash = true;
            defaultPerms.mode = "0711";
          }
        ];
        files = [
          "/etc/machine-id"
          {
            file = "/etc/nix/id_rsa";
            parentDirectory.mode = "u=rwx,g=,o=";
          }
          {
            file = "/etc/link";
            method = "symlink";
          }
        ];
      };
    }
    {
      "/persist" = {
        allowTrash = lib.mkForce true;
        enableDebugging = true;
        users.ada = {
          directories = [
            ".config//app/"
            {
              directory = ".ssh";
              mode = "0700";
            }
            {
              directory = "owned/by/other";
              user = "bob";
            }
          ];
          files = [
            ".screenrc"
            ".local/share/x"
          ];
        };
        users.bob.directories = [ "films" ];
      };
      off = {
        enable = false;
        persistentStoragePath = "/nowhere";
        directories = [ "/off" ];
        users.ada.directories = [ "off" ];
      };
      named = {
        persistentStoragePath = "/persist/named";
        directories = [ "/home/ada" ];
      };
    }
  ];
  # Modules of others read internal options, and order their scripts after the module's.
  assertions = map (it: {
    assertion = lib.hasPrefix "/" it.dirPath && it.defaultPerms.user == "root" && it.home == null;
    message = "environment.persistence: what is internal changed";
  }) config.environment.persistence."/persist".directories;
  system.activationScripts.theirs = {
    deps = [
      "createPersistentStorageDirs"
      "persist-files"
    ];
    text = "true";
  };
}
