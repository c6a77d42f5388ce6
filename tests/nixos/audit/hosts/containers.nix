# Containers and virtual machines; lxcfs mounts have no state.
{
  imports = [ ../quiet.nix ];
  virtualisation = {
    docker = {
      enable = true;
      daemon.settings.data-root = "/var/lib/images";
    };
    oci-containers = {
      backend = "docker";
      containers.wiki = {
        image = "wiki";
        volumes = [
          "/srv/wiki:/data"
          "/srv/theme:/theme:ro"
          "named:/named"
          "/etc/localtime:/etc/localtime:ro"
          "/run/docker.sock:/run/docker.sock"
        ];
      };
    };
    libvirtd.enable = true;
    lxc.lxcfs.enable = true;
    podman.enable = true;
  };
  containers = {
    web.config = { };
    scratch = {
      ephemeral = true;
      config = { };
    };
  };
}
