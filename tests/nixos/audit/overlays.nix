# In place of what takes long to evaluate, or is not in every nixpkgs, and does not matter here.
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
