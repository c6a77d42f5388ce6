# A service whose state nothing keeps, and a machine id from the configuration.
{
  imports = [ ./store.nix ];
  imp-mount.enable = true;
  imp-mount.audit.level = "warn";
  imp-mount.persist = {
    store = "/persist";
    essentials = true;
    homes = true;
    logs = true;
  };
  environment.persistence."/persist".directories = [ "/nix" ];
  environment.etc."machine-id".text = "0123456789abcdef0123456789abcdef\n";
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  systemd.services.shop = {
    script = "true";
    serviceConfig.StateDirectory = "shop";
  };
}
