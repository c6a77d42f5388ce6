# Homes, units, services, files of /etc name paths. None of these may depend on the entries, or an entry's path is an infinite
# recursion. Here each entry throws when evaluated, and all of these are evaluated: the list of those with a throw. Users and
# services' options also decide which stores there are, and may not depend on these either.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  persists = throw "what persists was looked at";
  host =
    modules:
    (import ./host.nix { inherit nixpkgs; } (
      [
        ./home-manager.nix
        {
          imports = [
            ./hosts/common.nix
            ./hosts/store.nix
          ];
          fileSystems."/nix" = {
            device = "/dev/disk/by-label/nix";
            fsType = "ext4";
          };
          fileSystems."/srv/media" = {
            device = "/dev/disk/by-label/media";
            fsType = "ext4";
          };
          services.postgresql.enable = true;
          services.openssh.enable = true;
          systemd.services.recorder = {
            script = "true";
            serviceConfig.StateDirectory = "recorder";
          };
          home-manager.users.ada = { };
          imp-mount.audit.level = "warn";
          imp-mount.metrics.enable = true;
        }
      ]
      ++ modules
    )).config;

  ours = name: lib.hasPrefix "imp-mount" name || name == "systemd-machine-id-commit";
  # Values used to name paths, or to search for one.
  looks = config: {
    "users" = lib.mapAttrs (_: user: {
      inherit (user)
        name
        group
        uid
        extraGroups
        createHome
        homeMode
        isNormalUser
        ;
      home = toString user.home;
    }) config.users.users;
    "groups" = lib.mapAttrs (_: group: { inherit (group) gid members; }) config.users.groups;
    "names of services" = lib.attrNames config.systemd.services;
    "directories of services" = map (service: {
      directories = map (key: service.serviceConfig.${key} or null) [
        "StateDirectory"
        "LogsDirectory"
        "CacheDirectory"
        "ConfigurationDirectory"
        "User"
        "Group"
      ];
    }) (lib.attrValues config.systemd.services);
    "services of others" = lib.mapAttrs (_: service: {
      inherit (service)
        enable
        wantedBy
        after
        environment
        ;
    }) (lib.filterAttrs (name: _: !ours name) config.systemd.services);
    "names of units" = lib.attrNames config.systemd.units;
    "timers, sockets, targets" = map lib.attrNames [
      config.systemd.timers
      config.systemd.sockets
      config.systemd.targets
    ];
    "tmpfiles" = [
      config.systemd.tmpfiles.rules
      config.systemd.tmpfiles.settings
    ];
    "services.postgresql" = config.services.postgresql.dataDir;
    "services.openssh" = map (key: key.path) config.services.openssh.hostKeys;
    "names of /etc" = lib.attrNames config.environment.etc;
    "places in /etc" = lib.mapAttrs (_: it: it.target) config.environment.etc;
    "variables" = config.environment.variables;
    "activation scripts" = lib.attrNames config.system.activationScripts;
    "file systems" = lib.mapAttrs (_: fs: {
      inherit (fs)
        mountPoint
        device
        fsType
        neededForBoot
        options
        ;
    }) config.fileSystems;
    "names of the initrd's units" = lib.attrNames config.boot.initrd.systemd.units;
    "names of the initrd's services" = lib.attrNames config.boot.initrd.systemd.services;
    "initrd" = [
      config.boot.initrd.availableKernelModules
      config.boot.initrd.supportedFilesystems
    ];
    "the host's name" = config.networking.hostName;
    "homes" = lib.mapAttrs (_: user: user.home.homeDirectory) config.home-manager.users;
    "names of stores" = lib.mapAttrs (
      _: store: store.persistentStoragePath
    ) config.environment.persistence;
  };

  # Both ways to enable the module, and each place of paths.
  hosts = {
    "environment.persistence" = [
      { environment.persistence."/persist".directories = persists; }
    ];
    "its elements" = [
      {
        imp-mount.enable = true;
        environment.persistence."/persist" = {
          directories = [ persists ];
          files = [ persists ];
        };
      }
    ];
    "its users" = [
      {
        environment.persistence."/persist".users.ada = {
          directories = [ persists ];
          files = persists;
        };
      }
    ];
    "preservation" = [
      {
        preservation.enable = true;
        preservation.preserveAt."/persist" = {
          directories = persists;
          users.ada.files = [ persists ];
        };
      }
    ];
    "home.persistence" = [
      { home-manager.users.ada.home.persistence."/persist".directories = [ persists ]; }
    ];
    "settings" = [
      {
        imp-mount.enable = true;
        imp-mount.settings.entries = [ persists ];
        imp-mount.settings.parents = persists;
      }
    ];
    "a conversion" = [
      {
        imp-mount.convert = "/persist";
        fileSystems."/" = {
          device = "/dev/disk/by-label/root";
          fsType = "ext4";
        };
        environment.persistence."/persist".directories = [ persists ];
      }
    ];
  };
  # Stores under a condition.
  conditions = {
    "preservation's stores" = [
      {
        preservation.enable = true;
        preservation.preserveAt = lib.mkIf persists { "/persist" = { }; };
      }
    ];
    "stores" = [ { environment.persistence = lib.mkIf persists { "/persist" = { }; }; } ];
  };
  fails = value: !(builtins.tryEval (builtins.stringLength (builtins.toJSON value))).success;
  ofHost =
    looks: name: modules:
    map (what: "${what}, with ${name}") (
      lib.attrNames (lib.filterAttrs (_: fails) (looks (host modules)))
    );
  decides =
    config:
    lib.getAttrs [
      "users"
      "groups"
      "services.postgresql"
      "services.openssh"
      "homes"
      "the host's name"
      "variables"
    ] (looks config);
in
{
  wrong = lib.concatLists (
    lib.mapAttrsToList (ofHost looks) hosts ++ lib.mapAttrsToList (ofHost decides) conditions
  );
  # The list of entries itself depends on them: a dependency is found.
  found = fails (host hosts."its elements").imp-mount.entries;
}
