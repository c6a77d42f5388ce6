# The package of the module as nixpkgs' own stdenv and hooks for Rust build it, with this machine's compilers. Its programs have no
# list of their crates, as cargo-auditable is not here.
{
  pkgs,
  # The folder of a Rust toolchain.
  toolchain,
}:
let
  inherit (pkgs) lib runCommand;
  programs =
    name:
    runCommand name { inherit toolchain; } ''
      mkdir -p $out/bin
      ln -s "$toolchain"/bin/${name} $out/bin/
    ''
    // {
      targetPlatforms = lib.platforms.linux;
      badTargetPlatforms = [ ];
    };
  static = runCommand "glibc-static" { } ''
    mkdir -p $out/lib
    ln -s /usr/lib/*-linux-gnu/lib*.a $out/lib/
  '';
  package = pkgs.callPackage ../../../../nixos-module/package.nix {
    rustPlatform = pkgs.makeRustPlatform {
      cargo = programs "cargo";
      rustc = programs "rustc";
      cargo-auditable.meta.broken = true;
    };
    stdenv = pkgs.stdenv // {
      cc = pkgs.stdenv.cc // {
        libc = { inherit static; };
      };
    };
  };
  plain =
    it:
    it.overrideAttrs (before: {
      # An older compiler does not know every option of these.
      hardeningDisable = [ "all" ];
      # Named by the wrapper of binutils otherwise.
      env = before.env or { } // {
        STRIP = "strip";
        RANLIB = "ranlib";
        READELF = "readelf";
      };
      # cargo writes to its home.
      postHook = "export HOME=$NIX_BUILD_TOP";
    });
in
plain package // { initrd = plain package.initrd; }
