# A kernel package without a kernel, for systems on this machine's kernel; or the kernel of an unpacked Debian.
{
  final,
  debian ? null,
}:
let
  inherit (final) lib;
  version =
    if debian == null then
      "6.18.0"
    else
      lib.head (lib.attrNames (builtins.readDir (debian + "/usr/lib/modules")));
  kernel =
    final.runCommand "linux-${version}" { } (
      if debian == null then
        ''
          mkdir -p $out/lib/modules/${version}
          touch $out/bzImage $out/lib/modules/${version}/modules.{order,builtin,builtin.modinfo}
        ''
      else
        ''
          mkdir -p $out/lib/modules/${version}
          cp ${debian}/boot/vmlinuz-${version} $out/bzImage
          cp -r ${debian}/usr/lib/modules/${version}/{kernel,modules.*} $out/lib/modules/${version}/
        ''
    )
    // {
      inherit version;
      modDirVersion = version;
      target = "bzImage";
      features = { };
      kernelOlder = _: false;
      kernelAtLeast = _: true;
      buildDTBs = false;
      isZen = false;
      isHardened = false;
      isLibre = false;
      inherit (final) stdenv;
      config = {
        isSet = _: true;
        isYes = _: true;
        isNo = _: false;
        isModule = _: false;
        isEnabled = _: true;
        isDisabled = _: false;
      };
      commonMakeFlags = [ ];
      randstructSeed = "";
      configfile = final.writeText "config" ''
        CONFIG_ARCH_MMAP_RND_BITS_MAX=32
        CONFIG_ARCH_MMAP_RND_COMPAT_BITS_MAX=16
      '';
      dev = final.emptyDirectory;
      modules = kernel;
      out = kernel;
      override = _: kernel;
    };
  self = {
    inherit kernel;
    inherit (final) stdenv;
    extend = _: self;
    kernelOlder = _: false;
    kernelAtLeast = _: true;
  };
in
self
