# Paths as people write them, in one form. Needs nothing but builtins.
let
  components =
    path:
    builtins.filter (part: builtins.isString part && part != "" && part != ".") (
      builtins.split "/" path
    );
  absolute = parts: "/" + builtins.concatStringsSep "/" parts;
  startsWith = start: text: builtins.substring 0 (builtins.stringLength start) text == start;
in
{
  # "/home/ada/" and "x//y" make "/home/ada/x/y". `..` stays, and impctl refuses the path. A path without quotes is its text, and
  # is not copied to the Nix store; a package's is a text, too.
  join =
    paths:
    let
      path = builtins.unsafeDiscardStringContext (builtins.concatStringsSep "/" (map toString paths));
      isClean = builtins.match "(/([^/.]|[.][^/])[^/]*)+" path != null;
    in
    if isClean then path else absolute (components path);

  # The directories above a path, from the top, without "/".
  ancestors =
    path:
    let
      parts = components path;
      above = count: absolute (builtins.genList (builtins.elemAt parts) (count + 1));
    in
    builtins.genList above (if parts == [ ] then 0 else builtins.length parts - 1);

  # True if a path is `above`, or lies below `above`.
  isIn = above: path: above == "/" || path == above || startsWith "${above}/" path;

  # A definition's file without its place in the Nix store, which changes with every commit and would change the initrd.
  place =
    file:
    let
      text = builtins.unsafeDiscardStringContext (toString file);
      length = builtins.stringLength builtins.storeDir;
      inStore = builtins.match "/[^/]+/(.*)" (builtins.substring length (-1) text);
    in
    if startsWith builtins.storeDir text && inStore != null then builtins.head inStore else text;

  # A path in a unit's RequiresMountsFor= and the like.
  quote = path: builtins.replaceStrings [ "%" ] [ "%%" ] (builtins.toJSON path);
}
