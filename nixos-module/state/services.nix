# Services by name: those that many run, and those whose units do not say where their state is.
{ config, lib }:
let
  inherit (config) services;

  # A service of NixOS's, if it is there and enabled, and what it holds: from the service's options to a row without `why`.
  of =
    name: row:
    let
      service = services.${name} or { };
    in
    lib.optional (service.enable or false) ({ why = name; } // row service);
  # The common forms: the directory is what an option says, or always the same, and the owner what options say. What a service
  # has below /var/lib/NAME is kept with all that is there: its other versions, its downloads, its plugins.
  top =
    name: directory:
    if lib.hasPrefix "/var/lib/${name}/" (toString directory) then "/var/lib/${name}" else toString directory;
  at =
    name: option: mode:
    of name (service: {
      directory = top name service.${option};
      inherit (service) user group;
      inherit mode;
    });
  fixed =
    name: directory: user: mode:
    of name (_: {
      inherit directory user mode;
      group = user;
    });
  ofRoot = name: directory: fixed name directory "root" "0755";
  # systemd gives it to the service's dynamic user whenever that starts.
  dynamic =
    name: directory: mode:
    fixed name "/var/lib/private/${directory}" "root" mode;

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
  };
in
lib.concatLists [
  # databases
  (of "postgresql" (service: {
    directory = top "postgresql" service.dataDir;
    user = "postgres";
    group = "postgres";
    mode = "0750";
  }))
  (at "mysql" "dataDir" "0700")
  redis
  (of "mongodb" (service: {
    directory = service.dbpath;
    inherit (service) user;
    mode = "0700";
  }))
  (at "influxdb" "dataDir" "0770")
  (fixed "influxdb2" "/var/lib/influxdb2" "influxdb2" "0755")
  (at "couchdb" "databaseDir" "0755")
  (fixed "clickhouse" "/var/lib/clickhouse" "clickhouse" "0755")
  (of "elasticsearch" (service: {
    directory = service.dataDir;
    user = "elasticsearch";
    group = "elasticsearch";
    mode = "0700";
  }))
  (dynamic "meilisearch" "meilisearch" "0755")
  (dynamic "victoriametrics" "victoriametrics" "0700")

  # media
  (at "plex" "dataDir" "0755")
  (at "jellyfin" "dataDir" "0700")
  (at "sonarr" "dataDir" "0755")
  (at "radarr" "dataDir" "0700")
  (at "lidarr" "dataDir" "0700")
  (at "readarr" "dataDir" "0700")
  (dynamic "prowlarr" "prowlarr" "0755")
  (at "bazarr" "dataDir" "0700")
  (at "jackett" "dataDir" "0700")
  (at "tautulli" "dataDir" "0755")
  (at "transmission" "home" "0750")
  (at "qbittorrent" "profileDir" "0755")
  (at "deluge" "dataDir" "0770")
  (of "audiobookshelf" (service: {
    directory = "/var/lib/${service.dataDir}";
    inherit (service) user group;
  }))
  (fixed "navidrome" "/var/lib/navidrome" "navidrome" "0755")
  (at "immich" "mediaLocation" "0755")

  # homes and offices
  (fixed "home-assistant" "/var/lib/hass" "hass" "0700")
  (fixed "zigbee2mqtt" "/var/lib/zigbee2mqtt" "zigbee2mqtt" "0700")
  (fixed "mosquitto" "/var/lib/mosquitto" "mosquitto" "0700")
  (at "syncthing" "dataDir" "0700")
  (of "nextcloud" (service: {
    directory = service.home;
    user = "nextcloud";
    group = "nextcloud";
    mode = "0750";
  }))
  (of "nextcloud" (service: {
    directory = service.datadir;
    user = "nextcloud";
    group = "nextcloud";
    mode = "0750";
  }))
  (of "vaultwarden" (_: {
    directory = "/var/lib/${
      if lib.versionOlder config.system.stateVersion "24.11" then "bitwarden_rs" else "vaultwarden"
    }";
    user = "vaultwarden";
    group = "vaultwarden";
    mode = "0700";
  }))
  (at "gitea" "stateDir" "0750")
  (at "forgejo" "stateDir" "0750")

  # networks and their safety
  acme
  (at "caddy" "dataDir" "0755")
  (fixed "fail2ban" "/var/lib/fail2ban" "root" "0750")
  (fixed "tailscale" "/var/lib/tailscale" "root" "0700")
  (fixed "headscale" "/var/lib/headscale" "headscale" "0750")
  (dynamic "adguardhome" "AdGuardHome" "0755")
  (ofRoot "samba" "/var/lib/samba")

  # what watches
  (of "grafana" (service: {
    directory = service.dataDir;
    user = "grafana";
    group = "grafana";
    mode = "0700";
  }))
  (at "loki" "dataDir" "0700")
  (of "prometheus" (service: {
    directory = "/var/lib/${service.stateDir}";
    user = "prometheus";
    group = "prometheus";
    mode = "0700";
  }))
  (dynamic "uptime-kuma" "uptime-kuma" "0750")

  # desktops; their units come with their packages, and are not in the configuration
  (lib.optionals (!services.printing.stateless) (ofRoot "printing" "/var/lib/cups"))
  (ofRoot "upower" "/var/lib/upower")
  (fixed "colord" "/var/lib/colord" "colord" "0755")
  (fixed "fprintd" "/var/lib/fprint" "root" "0700")
  (ofRoot "flatpak" "/var/lib/flatpak")
  (ofRoot "fwupd" "/var/lib/fwupd")
  (ofRoot "udisks2" "/var/lib/udisks2")
  (lib.optional services.displayManager.sddm.enable {
    directory = "/var/lib/sddm";
    user = "sddm";
    group = "sddm";
    mode = "0700";
    why = "sddm";
  })
  (ofRoot "accounts-daemon" "/var/lib/AccountsService")
]
