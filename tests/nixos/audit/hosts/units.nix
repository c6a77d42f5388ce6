# Units, tmpfiles and system users of one's own.
{ pkgs, ... }:
let
  service = serviceConfig: {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = "${pkgs.coreutils}/bin/true";
    }
    // serviceConfig;
  };
in
{
  imports = [ ../quiet.nix ];
  systemd.services = {
    several = service {
      StateDirectory = "several-a  several-b:several-link:ro";
      User = "ada";
      Group = "users";
      StateDirectoryMode = "0700";
    };
    listed = service {
      StateDirectory = [
        "listed/inner"
        "listed"
      ];
    };
    dynamic = service {
      StateDirectory = "dynamic";
      DynamicUser = true;
      ReadWritePaths = [ "/var/lib/dynamic/files" ];
    };
    misplaced = service {
      StateDirectory = "misplaced";
      DynamicUser = "yes";
    };
    numbers = service {
      StateDirectory = "numbers";
      StateDirectoryMode = 750;
      User = 1234;
      Group = null;
    };
    linked = service {
      StateDirectory = "linked:other";
      DynamicUser = true;
      ReadWritePaths = "/var/lib/linked";
    };
    "instance@one" = service {
      StateDirectory = "%p/%i";
    };
    "template@" = service { StateDirectory = "template/%i"; };
    writes = service { ReadWritePaths = "-/srv/writes +/run/writes /var/cache/writes /var/lib"; };
    works = service {
      WorkingDirectory = "-/var/lib/works";
      User = "ada";
    };
    told = service { } // {
      environment.TOLD_DATADIR = "/var/lib/told";
    };
    needs = service { } // {
      unitConfig.RequiresMountsFor = "/opt/needs";
    };
    off = service { StateDirectory = "off"; } // {
      enable = false;
    };
    caches = service {
      CacheDirectory = "caches";
      RuntimeDirectory = "caches";
      LogsDirectory = "caches";
    };
    kept = service { StateDirectory = "kept"; };
  };
  environment.persistence."/persist".directories = [
    "/var/lib/kept"
    "/var/lib/misplaced"
  ];
  systemd.tmpfiles.rules = [
    "d '/srv/quoted' 0750 ada users - -"
    "d /srv/several/below - - - - -"
    "D /srv/emptied 0755 root root - -"
    "f /srv/file 0644 root root - -"
    "d /tmp/somewhere 0755 root root 10d -"
  ];
  systemd.tmpfiles.settings.own = {
    "/srv/set".d = {
      user = "ada";
      mode = ":0700";
    };
  };
  users.users = {
    ada = {
      isNormalUser = true;
      home = "/persist/homes/ada";
    };
    daemon-with-home = {
      isSystemUser = true;
      group = "users";
      createHome = true;
      home = "/var/lib/daemon/";
      homeMode = "0711";
    };
  };
}
