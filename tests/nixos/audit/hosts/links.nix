# Links into the store count as kept, also for presets; files of environment.etc are declared.
{
  imports = [ ../common.nix ];
  hardware.bluetooth.enable = true;
  networking.networkmanager.enable = true;
  services.openssh.enable = true;
  environment.etc = {
    "machine-id".source = "/persist/etc/machine-id";
    "NetworkManager/system-connections".source = "/persist/etc/NetworkManager/system-connections/";
    "lost".source = "/srv/lost";
    "ssh/ssh_host_ed25519_key" = {
      source = "/srv/lost/key";
      mode = "direct-symlink";
    };
    "ssh/ssh_host_rsa_key" = {
      source = "/persist/key";
      mode = "direct-symlink";
    };
  };
  systemd.tmpfiles.rules = [ "L+ '/var/lib/bluetooth' - - - - /persist/var/lib/bluetooth" ];
  systemd.tmpfiles.settings.own."/var/lib/NetworkManager"."L+".argument = "/persist/networks";
  systemd.services.reads.serviceConfig = {
    ExecStart = "/bin/true";
    LoadCredential = [
      "a:/etc/lost/key"
      "b:/etc/own.key"
      "c:/run/secrets/c"
    ];
    EnvironmentFile = "-/root/reads.env";
  };
  imp-mount.persist.store = "/persist";
  imp-mount.persist.essentials = true;
}
