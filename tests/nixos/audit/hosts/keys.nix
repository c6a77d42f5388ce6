# Keys and passwords by their options: those in homes belong to the homes' users.
{ lib, ... }:
{
  imports = [ ../quiet.nix ];
  options = {
    age.identityPaths = lib.mkOption { default = [ "/home/ada/.ssh/id_ed25519" ]; };
    sops.gnupg.home = lib.mkOption { default = "/var/lib/gnupg"; };
  };
  config = {
    boot.initrd.network = {
      enable = true;
      ssh = {
        enable = true;
        authorizedKeys = [ "ssh-ed25519 AAAA x" ];
        hostKeys = [ "/etc/secrets/initrd/key" ];
      };
    };
    boot.initrd.systemd.enable = true;
    boot.initrd.secrets."/data.key" = "/root/keys/data.key";
    nix.settings.secret-key-files = "/etc/nix/cache-key.sec";
    networking.wireguard.interfaces.wg0 = {
      privateKeyFile = "/etc/wireguard/wg0.key";
      ips = [ "10.0.0.1/24" ];
    };
    services.homed.enable = true;
    services.userdbd.enable = true;
    services.userdbd.silenceHighSystemUsers = true;
    imp-mount.persist.essentials = lib.mkForce false;
    users.users = {
      ada.isNormalUser = true;
      bob = {
        isNormalUser = true;
        hashedPasswordFile = "/etc/secrets/bob.hash";
      };
      carol = {
        isNormalUser = true;
        hashedPasswordFile = "/run/secrets/carol";
      };
    };
  };
}
