"""SPF-Portrait: customise a text-to-image model on portraits and keep the original model everywhere else.

The rooms, in reading order: ``notation`` (the paper's symbols), ``text`` (base text, target text, phrases), ``clip``,
``backbones`` (what is asked of a text-to-image model; process; capture of attention), ``portraits`` (data),
``miniature`` (a painted world with known truth, on which everything runs), ``method`` (Eq. 3 to 12 as functions of
tensors), ``tuning`` (which weights learn), ``sampling`` (pairs from one seed), ``customised`` (a training read back as
models), ``baselines`` (other methods), ``stages`` (training), ``evaluation`` (triples, metrics), ``report`` (tables
and figures from results), ``figures`` (those that need a model), ``pictures`` and ``files``, and ``cli`` with
``__main__`` (the command line).
"""
