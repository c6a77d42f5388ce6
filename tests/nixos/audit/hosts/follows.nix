# A named data directory; siblings as one line; unused directories; quotes in tmpfiles.d.
{ config, ... }:
{
  imports = [ ../quiet.nix ];
  services.postgresql.enable = true;
  services.bitcoind.main.enable = true;
  services.geoclue2.enable = true;
  networking.nftables.enable = true;
  networking.networkmanager.enable = true;
  networking.dhcpcd.enable = true;
  systemd.tmpfiles.rules = [
    "d /var/lib/wiki/data 0750 ada users - -"
    "d /var/lib/wiki/media 0750 ada users - -"
    "d /var/lib/single/data 0750 ada users - -"
  ];
  environment.persistence."/persist".directories = [ config.services.postgresql.dataDir ];
}
