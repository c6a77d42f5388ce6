# The NixOS module. It describes what the configuration says; impctl, at build time, and imp-mount, at boot, decide.
{ lib, options, ... }:
{
  imports = [
    # Options, and entries and parents of the manifest by them.
    ./options.nix
    ./interfaces/impermanence
    ./interfaces/preservation.nix
    ./presets
    ./entries.nix
    # The manifest, parts that it needs, and refusals.
    ./plan.nix
    ./manifest.nix
    ./assertions.nix
    # Paths that nothing keeps.
    ./audit
    # Definitions of the system.
    ./effects/filesystems.nix
    ./effects/initrd.nix
    ./effects/etc.nix
    ./effects/system.nix
    ./effects/old-roots.nix
    ./effects/vm.nix
  ];

  config = lib.optionalAttrs (options ? home-manager.sharedModules) {
    home-manager.sharedModules = [
      ./interfaces/home-manager.nix
      { home._nixosModuleImported = true; }
    ];
  };
}
