# Everything is kept, in a line each, also what nobody else names.
{
  imports = [ ./bare.nix ];
  imp-mount.persist = {
    essentials = true;
    logs = true;
    services = true;
    homes = true;
    containers = true;
  };
  services.postgresql.enable = true;
  virtualisation.podman.enable = true;
}
