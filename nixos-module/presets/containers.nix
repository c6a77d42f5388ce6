# Containers and virtual machines: images, volumes, and sources of bind mounts into them.
{
  config,
  lib,
  known,
}:
let
  inherit (config) virtualisation;
  oci = virtualisation.oci-containers;
  uses = backend: oci.containers != { } && oci.backend == backend;

  graphRoot =
    virtualisation.containers.storage.settings.storage.graphroot or "/var/lib/containers/storage";
  # The default is named one level up, where podman also keeps its locks and caches.
  containersRoot = if graphRoot == "/var/lib/containers/storage" then dirOf graphRoot else graphRoot;

  # The host's side of "host:container[:options]", if it is a directory of state.
  throwAway = lib.attrNames known.disposable ++ [
    "/etc"
    "/nix"
  ];
  paths = import ../paths.nix;
  hostPaths =
    container:
    lib.filter (path: lib.hasPrefix "/" path && !lib.any (above: paths.isIn above path) throwAway) (
      map (volume: lib.head (lib.splitString ":" volume)) (
        lib.filter (
          volume: !lib.elem "ro" (lib.splitString "," (lib.last (lib.splitString ":" volume)))
        ) container.volumes
      )
    );
  volumes = lib.concatLists (
    lib.mapAttrsToList (
      name: container:
      map (directory: {
        inherit directory;
        why = "a volume of the container ${name}";
      }) (hostPaths container)
    ) oci.containers
  );

  lasting = lib.filterAttrs (_: container: !container.ephemeral) config.containers;

  # Programs with set user id, and devices, are in the images.
  at =
    enabled: directory: mode: why:
    lib.optional enabled {
      inherit directory mode why;
      mountOptions = [
        "suid"
        "dev"
      ];
    };
in
at (
  virtualisation.podman.enable || uses "podman" || virtualisation.cri-o.enable
) containersRoot "0755" "images, containers and volumes of podman"
++
  at (virtualisation.docker.enable || uses "docker")
    (virtualisation.docker.daemon.settings.data-root or "/var/lib/docker")
    "0710"
    "images, containers and volumes of docker"
++
  at (lasting != { })
    "/var/lib/${lib.optionalString (lib.versionAtLeast config.system.stateVersion "22.05") "nixos-"}containers"
    "0755"
    "the declarative containers ${lib.concatStringsSep ", " (lib.attrNames lasting)}"
++ volumes
