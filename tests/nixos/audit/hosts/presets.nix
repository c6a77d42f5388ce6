# All state is kept, with one line for each path, also paths named only by presets.
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
