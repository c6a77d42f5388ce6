# Stand-ins for packages with a slow evaluation, or missing in some nixpkgs, without an effect on the tests.
[
  (
    final: _:
    let
      # Programs in Haskell.
      nothing = final.writeScriptBin "nothing" "" // {
        compiler.bootstrapAvailable = false;
      };
    in
    {
      pandoc = nothing;
      shellcheck = nothing;
      shellcheck-minimal = nothing;
    }
  )
]
