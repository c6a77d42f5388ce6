# The build fails.
{
  imports = [ ../quiet.nix ];
  imp-mount.audit.level = "error";
  services.fail2ban.enable = true;
}
