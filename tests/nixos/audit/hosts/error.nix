# The build fails.
{
  imports = [ ../quiet.nix ];
  imp-mount.audit = "error";
  services.fail2ban.enable = true;
}
