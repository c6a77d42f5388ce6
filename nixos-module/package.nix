# imp-mount and impctl for the running system; `initrd` is the boot binary alone, static and small.
#
# The boot binary is linked to the C library of these packages: a second set of packages (pkgsStatic) takes more memory to evaluate than the
# whole module. The smaller one with musl is `(pkgsStatic.callPackage ./package.nix { }).initrd`.
{
  lib,
  stdenv,
  buildPackages,
  rustPlatform,
  installShellFiles,
  runCommand,
}:
let
  inherit (lib.importTOML ../Cargo.toml) package;

  # One expression for the source: lib.fileset calls many functions for each file.
  source =
    more:
    let
      start = lib.stringLength (toString ../.) + 1;
      names = "initrd|tests|(Cargo[.]toml|Cargo[.]lock|build[.]rs|src|${more})(/.*)?";
    in
    lib.cleanSourceWith {
      src = ../.;
      filter = path: _: builtins.match names (builtins.substring start (-1) path) != null;
    };

  # The crates named by Cargo.lock. rustPlatform.importCargoLock fetches the same files; its two derivations for each crate take a fifth
  # of the evaluation of the whole module.
  cargoDeps = runCommand "cargo-vendor-dir" {
    lock = ../Cargo.lock;
    crates = toString (
      map (
        crate:
        import <nix/fetchurl.nix> {
          name = "crate-${crate.name}-${crate.version}.tar.gz";
          url = "https://static.crates.io/crates/${crate.name}/${crate.version}/download";
          sha256 = crate.checksum;
        }
      ) (lib.filter (crate: crate ? checksum) (lib.importTOML ../Cargo.lock).package)
    );
  } (lib.readFile ./vendor.sh);

  common = {
    inherit (package) version;
    inherit cargoDeps;
    strictDeps = true;
    meta = {
      inherit (package) description;
      license = lib.licenses.mit;
      platforms = lib.platforms.linux;
      mainProgram = "imp-mount";
    };
  };

  # glibc keeps the library for static programs apart; musl does not. Named to rustc for the program alone: through
  # buildInputs the linker would also use it for build scripts and procedural macros, which are dynamic.
  libc = lib.optional (stdenv.hostPlatform.libc == "glibc") "-Lnative=${stdenv.cc.libc.static}/lib";

  # musl never write-protects data of a static program (RELRO), so the data need not begin on a page of the file.
  unpadded = lib.optionals stdenv.hostPlatform.isMusl [
    "-Crelro-level=off"
    "-Clink-arg=-Wl,-z,common-page-size=64"
  ];

  initrd = rustPlatform.buildRustPackage (
    common
    // {
      pname = "imp-mount-initrd";
      # The linker script named in rustflags.
      src = source "initrd/no-unwind-tables[.]ld";
      buildNoDefaultFeatures = true;
      # No list of crates in a program with a size limit.
      auditable = false;
      cargoBuildFlags = [
        "--bin"
        "imp-mount"
      ];
      env.RUSTFLAGS = toString (
        lib.splitString "\n" (lib.fileContents ../initrd/rustflags) ++ libc ++ unpadded
      );
      # Names of functions too, which is not the default.
      stripAllList = [ "bin" ];
      doCheck = false;
      # An initrd has no libraries.
      doInstallCheck = true;
      installCheckPhase = ''
        if LC_ALL=C $READELF --program-headers $out/bin/imp-mount | grep INTERP; then
          echo "imp-mount is not static"
          exit 1
        fi
      '';
    }
  );
in
rustPlatform.buildRustPackage (
  common
  // {
    pname = package.name;
    src = source "docs|tests/golden|tests/manifest|tests/manifest[.]rs";
    nativeBuildInputs = [ installShellFiles ];
    # Tests with mounts need a kernel of their own: see ../tests/nixos.
    cargoTestFlags = [
      "--lib"
      "--bins"
      "--test=manifest"
    ];
    # In a cross build the build machine runs its own impctl.
    postInstall =
      let
        impctl = "${stdenv.hostPlatform.emulator buildPackages} $out/bin/impctl";
      in
      ''
        ${impctl} man $out/share/man
        for program in impctl imp-mount; do
          for shell in bash fish zsh; do
            ${impctl} completions $shell $program > $program.$shell
          done
          installShellCompletion --cmd $program $program.{bash,fish,zsh}
        done
      '';
    passthru = { inherit initrd; };
  }
)
