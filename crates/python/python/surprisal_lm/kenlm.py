"""Takes the place of `import kenlm`: the same classes, the same numbers.

    import surprisal_lm.kenlm as kenlm
    model = kenlm.Model("lm.arpa")
    model.score("this is a sentence .")       # log10, summed as 32-bit floats like KenLM's

Reads ARPA files, KenLM binaries and `.ngram` files.
"""
