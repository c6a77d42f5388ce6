# cassie-box: a home media server. The disk is in disko.nix for a new install, in convert.nix for an existing system.
{ config, pkgs, ... }:
{
  imports = [
    ./modules/impermanence.nix
    ./modules/plex.nix
  ];

  mySystem = {
    persistentFolder = "/persist";
    system.impermanence.enable = true;
    services.plex.enable = true;
  };

  # Persistent paths. Whole groups, by name:
  imp-mount.persist = {
    essentials = true;
    logs = true;
    homes = true;
    containers = true;
  };
  # ... and one by one, where a line says more than a group:
  environment.persistence.${config.mySystem.persistentFolder}.directories = [
    {
      directory = "/var/lib/postgresql";
      user = "postgres";
      group = "postgres";
      mode = "0750";
    }
    {
      directory = "/var/lib/mysql";
      user = "mysql";
      group = "mysql";
    }
    {
      directory = "/var/lib/sonarr";
      user = "sonarr";
      group = "sonarr";
    }
    # The user in a container has a number, and no name on the host.
    {
      directory = "/srv/homepage";
      user = "568";
      group = "568";
      mode = "0750";
    }
  ];
  # Disposable paths:
  imp-mount.audit.ignore = [
    {
      path = "/var/lib/fail2ban";
      reason = "bans may end with a reboot";
    }
  ];

  nixpkgs.config.allowUnfreePredicate = package: package.pname or "" == "plexmediaserver";
  services = {
    postgresql.enable = true;
    mysql = {
      enable = true;
      package = pkgs.mariadb;
    };
    sonarr.enable = true;
    openssh.enable = true;
    fail2ban.enable = true;
  };
  virtualisation.podman.enable = true;
  virtualisation.oci-containers.containers.homepage = {
    image = "ghcr.io/gethomepage/homepage:latest";
    user = "568:568";
    volumes = [
      "/srv/homepage:/app/config"
      "/srv/icons:/app/public/icons"
    ];
  };

  # Films and series are on disks of their own, seen as one by mergerfs: they persist anyway, and no entry lies below them.
  environment.systemPackages = [ pkgs.mergerfs ];
  fileSystems = {
    "/mnt/disk1" = {
      device = "/dev/disk/by-label/disk1";
      fsType = "ext4";
    };
    "/mnt/disk2" = {
      device = "/dev/disk/by-label/disk2";
      fsType = "ext4";
    };
    "/mnt/data" = {
      device = "/mnt/disk1:/mnt/disk2";
      fsType = "fuse.mergerfs";
      depends = [
        "/mnt/disk1"
        "/mnt/disk2"
      ];
      options = [
        "category.create=mfs"
        "minfreespace=50G"
        "fsname=data"
      ];
    };
  };

  # A machine without a screen needs no emergency shell. If a late mount fails, the entries below the mount are
  # guarded.
  systemd.enableEmergencyMode = false;

  system.autoUpgrade = {
    enable = true;
    flake = "github:cassie/hosts#cassie-box";
    # For the next boot: a path in use cannot be unmounted under a running system.
    operation = "boot";
    dates = "04:00";
    allowReboot = true;
    rebootWindow = {
      lower = "03:00";
      upper = "05:00";
    };
  };

  users = {
    mutableUsers = false;
    users.cassie = {
      isNormalUser = true;
      extraGroups = [ "wheel" ];
      hashedPasswordFile = "/persist/secrets/cassie.password";
      openssh.authorizedKeys.keys = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA cassie"
      ];
    };
  };

  networking.hostName = "cassie-box";
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  system.stateVersion = "26.05";
  nixpkgs.hostPlatform = "x86_64-linux";
}
