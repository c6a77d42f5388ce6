# Paths as people write them, in one form.
{ lib }:
let
  components =
    path: lib.filter (part: lib.isString part && part != "" && part != ".") (builtins.split "/" path);
in
rec {
  # "/home/ada/" and "x//y" make "/home/ada/x/y". What goes up with `..` stays, for impctl to refuse.
  join = paths: "/" + lib.concatStringsSep "/" (lib.concatMap components paths);

  # The directories above a path, nearest last, without "/".
  ancestors =
    path:
    let
      parts = components path;
    in
    map (count: join [ (lib.concatStringsSep "/" (lib.take count parts)) ]) (
      lib.range 1 (lib.length parts - 1)
    );

  # Whether a path is `above`, or lies below it.
  isIn = above: path: above == "/" || path == above || lib.hasPrefix "${above}/" path;

  # A definition's file as it is called everywhere: without the place in the Nix store that changes with every commit.
  place =
    file:
    let
      text = builtins.unsafeDiscardStringContext (toString file);
      inStore = builtins.match "${lib.escapeRegex builtins.storeDir}/[^/]+/(.*)" text;
    in
    if inStore == null then text else lib.head inStore;
}
