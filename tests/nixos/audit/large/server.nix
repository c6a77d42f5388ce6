# A server with some fifty services: all services known to imp-mount that evaluate without further settings, and others.
{ lib, pkgs, ... }:
{
  imports = [
    ../common.nix
    {
      services =
        lib.genAttrs
          [
            "adguardhome"
            "audiobookshelf"
            "bazarr"
            "caddy"
            "clickhouse"
            "couchdb"
            "deluge"
            "elasticsearch"
            "fail2ban"
            "forgejo"
            "gitea"
            "grafana"
            "headscale"
            "home-assistant"
            "immich"
            "influxdb"
            "influxdb2"
            "jackett"
            "jellyfin"
            "lidarr"
            "loki"
            "meilisearch"
            "mongodb"
            "mosquitto"
            "murmur"
            "mysql"
            "navidrome"
            "netdata"
            "nextcloud"
            "ollama"
            "openldap"
            "openssh"
            "plex"
            "postgresql"
            "printing"
            "prometheus"
            "prowlarr"
            "qbittorrent"
            "radarr"
            "radicale"
            "readarr"
            "samba"
            "sonarr"
            "syncthing"
            "tailscale"
            "tautulli"
            "transmission"
            "uptime-kuma"
            "vaultwarden"
            "victoriametrics"
            "zigbee2mqtt"
          ]
          (_: {
            enable = true;
          });
    }
  ];
  nixpkgs.config.allowUnfree = true;
  imp-mount.persist.store = "/persist";
  services = {
    grafana.settings.security.secret_key = "of a test";
    headscale.settings = {
      dns.magic_dns = false;
      dns.override_local_dns = false;
    };
    loki.configFile = "/etc/loki.yaml";
    mysql.package = pkgs.mariadb;
    nextcloud = {
      hostName = "cloud";
      config.adminpassFile = "/persist/secrets/nextcloud";
      config.dbtype = "sqlite";
    };
    radicale.settings.auth.type = "none";
  };
  security.acme = {
    acceptTerms = true;
    defaults.email = "ada@example.org";
    certs."example.org".webroot = "/var/lib/acme/challenges";
  };
  virtualisation = {
    docker.enable = true;
    libvirtd.enable = true;
    podman.enable = true;
  };
  users.users.ada.isNormalUser = true;
}
