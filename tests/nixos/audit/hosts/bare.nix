# Nothing is named: everything is missing.
{
  imports = [ ../common.nix ];
  imp-mount.persist.store = "/persist";
  security.sudo.enable = true;
  networking.dhcpcd.enable = true;
  services.logrotate.enable = true;
  nix.channel.enable = true;
  services.openssh.enable = true;
  users.users.ada.isNormalUser = true;
}
