# Services whose paths depend on more than one option; the others are in the table.
{ config, lib, ... }:
let
  inherit (config) services;
  redis = lib.concatLists (
    lib.mapAttrsToList (
      name: server:
      let
        fullName = if name == "" then "redis" else "redis-${name}";
      in
      lib.optional server.enable {
        directory = "/var/lib/${fullName}";
        inherit (server) user group;
        mode = "0700";
        why = fullName;
      }
    ) services.redis.servers
  );
  acme = lib.optional (config.security.acme.certs != { }) {
    directory = "/var/lib/acme";
    user = if config.security.acme.useRoot then "root" else "acme";
    group = "acme";
    why = "certificates of ${lib.concatStringsSep ", " (lib.attrNames config.security.acme.certs)}";
    class = "identity";
  };
  nextcloud = lib.optional services.nextcloud.enable {
    directory = services.nextcloud.datadir;
    user = "nextcloud";
    group = "nextcloud";
    mode = "0750";
    why = "nextcloud";
  };
  vaultwarden = lib.optional services.vaultwarden.enable {
    directory = "/var/lib/${
      if lib.versionOlder config.system.stateVersion "24.11" then "bitwarden_rs" else "vaultwarden"
    }";
    user = "vaultwarden";
    group = "vaultwarden";
    mode = "0700";
    why = "vaultwarden";
  };
in
redis ++ acme ++ nextcloud ++ vaultwarden
