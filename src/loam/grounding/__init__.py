"""Documents in, passages out, answers that quote them."""
