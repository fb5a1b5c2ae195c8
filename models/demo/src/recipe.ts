// The fixed numbers of the shipped model: what makes the corpus, the vocabulary and the evaluation the same again. How it
// is trained stands in recipe/train.json, in the form that `rwkv train` reads.

/** Seed of the training corpus. */
export const CORPUS_SEED = 1;

/** Documents of the corpus, about 120 tokens each; training sees each once. */
export const N_DOCUMENTS = 200_000;

/** The vocabulary is chosen from the first of them. */
export const N_VOCABULARY_DOCUMENTS = 20_000;

/** With the 256 bytes and id 0 these make 1,024 ids. */
export const MAX_TOKENS = 767;

/** Seed of the cases of the evaluation. */
export const EVAL_SEED = 2;
