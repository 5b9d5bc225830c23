/*
 * index_docs.h - docstrings of the index classes, included by index_type.c alone.
 * The first line of each is the signature in the form inspect reads. Classes
 * differ in which options they take, so the signatures are put together here.
 */

/* ---- classes ---------------------------------------------------------------- */

#define DOC_FLAT                                                                         \
    "Exact search over float32 vectors.\n\n"                                             \
    "Every search computes every distance. The right choice for a few thousand\n"        \
    "vectors, and the yardstick for the other classes. Made by `build`, `load` or\n"     \
    "`from_bytes`. Many threads may search while one of them changes the index."

#define DOC_RABITQ                                                                       \
    "A few bits per dimension and no original vectors: small, and approximate.\n\n"      \
    "Scores are estimates (RaBitQ: Gao and Long 2024, arXiv:2405.12497; with more "      \
    "than\n"                                                                             \
    "one bit Gao et al. 2024, arXiv:2409.09913). Vectors cannot be read back. Made by\n" \
    "`build`, `load` or `from_bytes`. Many threads may search while one of them\n"       \
    "changes the index."

#define DOC_PLUS                                                                         \
    "Codes that find candidates, original vectors that decide.\n\n"                      \
    "The codes (RaBitQ: Gao and Long 2024, arXiv:2405.12497) give each vector a lower\n" \
    "bound of its distance; the exact distance is computed for every vector whose\n"     \
    "bound beats the k best found so far. Scores are exact. `epsilon`, the width of\n"   \
    "the bound, and `nprobe`, the number of lists looked into, trade speed for\n"        \
    "recall; `tune` chooses both. Made by `build`, `load` or `from_bytes`. Many\n"       \
    "threads may search while one of them changes the index."

#define DOC_ASYM                                                                         \
    "Codes against unquantized queries.\n\n"                                             \
    "Without a `rerank_factor`, or with 1, only codes are kept and scores are\n"         \
    "estimates; with a larger one original vectors are kept as well and scores are\n"    \
    "exact. Made by `build`, `load` or `from_bytes`. Many threads may search while\n"    \
    "one of them changes the index."

/* ---- build ------------------------------------------------------------------ */

#define DOC_CONVERT                                                                      \
    "convert: copy vectors of any real dtype and layout as float32 in C order, which\n"  \
    "    are refused otherwise. Each number must be within the range of float32.\n"

#define DOC_BUILD(options, what)                                                         \
    "build($type, vectors, *, ids=None, seed=42, metric='l2'" options                    \
    ", convert=False, progress=None)\n--\n\n"                                            \
    "An index of the rows of `vectors`.\n\n"                                             \
    "vectors: (n, dim) float32, C-contiguous, finite, 1 <= dim <= 8192; used without\n"  \
    "    a copy while building. Lists and tuples are copied first. n may be 0.\n"        \
    "ids: n integers in 0..2^64-2, none twice; None means 0..n-1.\n"                     \
    "seed: of everything random, 0..2^64-1. Same data, seed and options give the same\n" \
    "    bytes on every machine and with any number of threads.\n"                       \
    "metric: 'l2' (score = squared distance, smaller is better), 'ip' (inner product)\n" \
    "    or 'cosine' (larger is better).\n" what DOC_CONVERT                             \
    "progress: function (rows_done, rows_total), called about every 50 ms. An\n"         \
    "    exception it raises stops the build, and so does Ctrl-C.\n\n"                   \
    "Raises ValueError (NaN, infinity, dim), TypeError (dtype), DuplicateId."

#define DOC_BITS_LISTS                                                                   \
    "bits: of a code per dimension, 1..8: one for the sign, the others for the\n"        \
    "    magnitude (Gao et al. 2024, arXiv:2409.09913). More bits: closer estimates,\n"  \
    "    more memory.\n"                                                                 \
    "n_lists: lists of similar vectors, each coded around its own center; 1..64, or\n"   \
    "    up to one per 64 vectors; None chooses from n. Searches may look into the\n"    \
    "    nearest few only: `nprobe`.\n"
#define DOC_RERANK                                                                       \
    "rerank_factor: at least the best k * rerank_factor estimates are checked\n"         \
    "    exactly, 1..1024; None lets the bound alone decide. Default of searches.\n"     \
    "epsilon: width of the error bound in standard deviations, above 0; None means\n"    \
    "    2.2. With a larger one fewer neighbors are missed. Default of searches.\n"      \
    "originals: 'f16' keeps the vectors as float16, in half the memory, and indexes\n"   \
    "    what they are rounded to: scores are exact for those. Magnitudes from 65520\n"  \
    "    on are a ValueError, in later additions too.\n"

#define DOC_BUILD_FLAT DOC_BUILD("", "")
#define BUILD_CODED ", bits=1, n_lists=None"
#define DOC_BUILD_RABITQ DOC_BUILD(BUILD_CODED, DOC_BITS_LISTS)
#define DOC_BUILD_RERANKED                                                               \
    DOC_BUILD(BUILD_CODED ", rerank_factor=None, epsilon=None, originals='f32'",         \
              DOC_BITS_LISTS DOC_RERANK)

/* ---- search ----------------------------------------------------------------- */

#define DOC_ALLOW(mask)                                                                  \
    "allow: search these only: ids (integers; unknown ones are ignored, negative ones\n" \
    "    too) or a boolean mask" mask ", in the order of `ids`. The k best of these\n"   \
    "    come back. Repeated zeros and ones of integers are flags, a ValueError.\n"      \
    "allow_version: `version` of the index when a mask was made; ValueError if rows\n"   \
    "    changed since. A mask needs it once rows have been removed or replaced.\n"
#define DOC_NPROBE                                                                       \
    "nprobe: lists to look into on average, the nearest first, 1..65536 or 'all';\n"     \
    "    None takes the attribute `nprobe`. A query looks into half to twice as many,\n" \
    "    with metric 'ip' always into so many, and into further ones where those hold\n" \
    "    fewer than k allowed vectors.\n"
#define DOC_SEARCH_RERANK                                                                \
    "epsilon, rerank_factor: as in `build`, for this search.\n"                          \
    "max_rerank: at most this many exact distances per query, at least k.\n"

#define DOC_SEARCH(options, what)                                                        \
    "search($self, query, k=10, *, allow=None, allow_version=None" options ")\n--\n\n"   \
    "The k best vectors, best first, as a list of Hit(id, score).\n\n"                   \
    "query: (dim,) or (1, dim), any real dtype, finite; searched as float32.\n"          \
    "k: at least 1. Fewer hits come where fewer vectors are allowed.\n" DOC_ALLOW(       \
        " of shape (n,)") what                                                           \
        "\nEqual scores come by ascending id. Raises DimensionMismatch, EmptyIndex,\n"   \
        "ValueError, TypeError."

#define DOC_SEARCH_BATCH(options, what)                                                  \
    "search_batch($self, queries, k=10, *, allow=None, allow_version=None" options       \
    ", progress=None)\n--\n\n"                                                           \
    "The k best vectors of each query, as arrays (ids, scores).\n\n"                     \
    "queries: (m, dim), or (dim,) for one, any real dtype, finite; searched as "         \
    "float32.\n"                                                                         \
    "k: at least 1.\n" DOC_ALLOW(" of shape (n,), or (m, n) with a row per query") what  \
        "progress: function (queries_done, queries_total). An exception it raises\n"     \
        "    stops the search, and so does Ctrl-C.\n\n"                                  \
        "ids is (m, k) uint64, scores (m, k) float32. Places without a vector hold\n"    \
        "NO_ID and the worst score (inf for 'l2', -inf else). A k above len(index)\n"    \
        "that makes more than 2**26 places is a ValueError. Queries are shared out\n"    \
        "among threads. Raises DimensionMismatch, EmptyIndex, ValueError, TypeError."

#define SEARCH_CODED ", nprobe=None"
#define SEARCH_RERANKED SEARCH_CODED ", epsilon=None, rerank_factor=None, max_rerank=None"
#define DOC_SEARCH_FLAT DOC_SEARCH("", "")
#define DOC_SEARCH_RABITQ DOC_SEARCH(SEARCH_CODED, DOC_NPROBE)
#define DOC_SEARCH_RERANKED DOC_SEARCH(SEARCH_RERANKED, DOC_NPROBE DOC_SEARCH_RERANK)
#define DOC_SEARCH_BATCH_FLAT DOC_SEARCH_BATCH("", "")
#define DOC_SEARCH_BATCH_RABITQ DOC_SEARCH_BATCH(SEARCH_CODED, DOC_NPROBE)
#define DOC_SEARCH_BATCH_RERANKED                                                        \
    DOC_SEARCH_BATCH(SEARCH_RERANKED, DOC_NPROBE DOC_SEARCH_RERANK)

/* ---- tuning ----------------------------------------------------------------- */

#define SIGNATURE_TUNE "tune($self, queries, *, k=10, recall=0.99, progress=None)\n--\n\n"

#define DOC_TUNE                                                                         \
    SIGNATURE_TUNE                                                                       \
    "Choose `nprobe` and `epsilon` for a recall, as the defaults of searches.\n\n"       \
    "queries: (m, dim), any real dtype, finite, m >= 2, some hundred better: "           \
    "from\n"                                                                             \
    "    where later queries will come, and not vectors of the index.\n"                 \
    "k: results of a search, 1..n.\n"                                                    \
    "recall: share of the true k nearest vectors to find, above 0, at most 1. Where "    \
    "no\n"                                                                               \
    "    vectors are kept, of what the best estimates find.\n"                           \
    "progress: function (queries_done, queries_total), of many searches of all "         \
    "queries.\n"                                                                         \
    "    An exception it raises stops the call, and so does Ctrl-C; then nothing has\n"  \
    "    changed.\n\n"                                                                   \
    "The cheapest settings that reach the recall on every other query. Returns\n"        \
    "Tuning(nprobe, epsilon, recall), the recall that of the queries between. Cost is\n" \
    "counted, not timed: the same queries give the same settings everywhere. Files\n"    \
    "keep them. Raises DimensionMismatch, ValueError, TypeError."

#define DOC_TUNE_FLAT                                                                    \
    SIGNATURE_TUNE "Raises ValueError: exact search has nothing to tune."

/* ---- changes ---------------------------------------------------------------- */

#define DOC_ADD                                                                          \
    "add($self, id, vector, *, convert=False)\n--\n\n"                                   \
    "Append one vector and return its id.\n\n"                                           \
    "id: 0..2^64-2, not in the index yet (`upsert` replaces); None takes the one\n"      \
    "    after the largest ever used.\n"                                                 \
    "vector: (dim,) float32, finite; lists and tuples are copied.\n" DOC_CONVERT "\n"    \
    "Raises DuplicateId, DimensionMismatch, ValueError, TypeError; then nothing has\n"   \
    "changed."

#define DOC_ADD_BATCH                                                                    \
    "add_batch($self, vectors, ids=None, *, convert=False, progress=None)\n--\n\n"       \
    "Append the rows of `vectors` and return their ids, (n,) uint64.\n\n"                \
    "vectors: (n, dim) float32, C-contiguous, finite; lists and tuples are copied.\n"    \
    "ids: n integers in 0..2^64-2, none in the index yet; None continues after the\n"    \
    "    largest ever used.\n" DOC_CONVERT                                               \
    "progress: function (rows_done, rows_total). An exception it raises stops the\n"     \
    "    call, and so does Ctrl-C.\n\n"                                                  \
    "Raises DuplicateId, DimensionMismatch, ValueError, TypeError; then nothing has\n"   \
    "changed."

#define DOC_UPSERT                                                                       \
    "upsert($self, ids, vectors, *, convert=False, progress=None)\n--\n\n"               \
    "Append the rows of `vectors`, in place of those that have the same ids.\n\n"        \
    "ids: n integers in 0..2^64-2, none twice.\n"                                        \
    "vectors: (n, dim) float32, C-contiguous, finite; lists and tuples are "             \
    "copied.\n" DOC_CONVERT                                                              \
    "progress: function (rows_done, rows_total). An exception it raises stops the\n"     \
    "    call, and so does Ctrl-C.\n\n"                                                  \
    "A replaced vector moves to the end of the order. Raises DuplicateId,\n"             \
    "DimensionMismatch, ValueError, TypeError; then nothing has changed."

#define DOC_REMOVE                                                                       \
    "remove($self, ids)\n--\n\n"                                                         \
    "Remove the vectors with these ids and return how many there were.\n\n"              \
    "ids: one int, or integers; unknown ones are ignored, negative ones too. Repeated\n" \
    "    zeros and ones are flags, a ValueError.\n\n"                                    \
    "The order of the rest stays.\n"                                                     \
    "Memory is given back by `vacuum`."

#define DOC_VACUUM                                                                       \
    "vacuum($self)\n--\n\n"                                                              \
    "Give back the memory of removed vectors. Ids and order stay."

/* ---- files ---------------------------------------------------------------------- */

#define DOC_SAVE                                                                         \
    "save($self, path)\n--\n\n"                                                          \
    "Write the index to a file.\n\n"                                                     \
    "The write is atomic: whatever happens, `path` holds what it held before or the\n"   \
    "whole new index. Raises PersistError, an OSError with errno and filename; a\n"      \
    "missing directory is a FileNotFoundError as well."

#define DOC_LOAD                                                                         \
    "load($type, path, *, mmap=True, verify=None)\n--\n\n"                               \
    "The index saved at `path` by this class.\n\n"                                       \
    "mmap: map the file instead of reading it; vectors stay on disk until touched.\n"    \
    "    The file must not be written to in place or cut while the index lives:\n"       \
    "    calls then raise PersistError, and cutting it in the middle of one can end\n"   \
    "    the process. Saving over it, replacing and removing it are fine.\n"             \
    "    mmap=False keeps a copy in memory.\n"                                           \
    "verify: whether to check the digest of the contents. None: of files under 1 GB.\n"  \
    "    The structure is checked in any case.\n\n"                                      \
    "Raises PersistError; a missing file is a FileNotFoundError as well."

#define DOC_TO_BYTES                                                                     \
    "to_bytes($self)\n--\n\n"                                                            \
    "What `save` would write, as bytes."

#define DOC_FROM_BYTES                                                                   \
    "from_bytes($type, data, *, verify=None)\n--\n\n"                                    \
    "The index whose `to_bytes` is `data`.\n\n"                                          \
    "data: bytes or any other contiguous buffer, used in place: it must not change\n"    \
    "    while the index lives, which keeps it alive.\n"                                 \
    "verify: as in `load`.\n\n"                                                          \
    "Raises PersistError."

#define DOC_REDUCE                                                                       \
    "__reduce_ex__($self, protocol, /)\n--\n\n"                                          \
    "Pickling, through `to_bytes`; out of band from protocol 5 on."

/* ---- contents ------------------------------------------------------------------- */

#define DOC_ARRAY                                                                        \
    "__array__($self, dtype=None, copy=None)\n--\n\n"                                    \
    "The vectors as an (n, dim) float32 array, in the order of `ids`.\n\n"               \
    "Read-only and without a copy. It stays as it is, whatever happens to the index,\n"  \
    "unless the file it is mapped from is changed in place.\n"                           \
    "Where removed rows lie between, a copy; copy=False then raises ValueError.\n"       \
    "Vectors kept as float16 come as a copy, without one for dtype=np.float16.\n"        \
    "Raises NoVectors where no vectors are kept."

#define DOC_MEMORY_USAGE                                                                 \
    "memory_usage($self)\n--\n\n"                                                        \
    "Bytes by use, as a dict.\n\n"                                                       \
    "codes (with factors and norms), blocks (codes arranged for the scan), vectors,\n"   \
    "ids, rotation and slack (reserved and not used, and what does not grow with "       \
    "rows)\n"                                                                            \
    "sum up to total. mapped is the part of total that is a mapped file rather than\n"   \
    "memory of this process."

#define DOC_ROTATION                                                                     \
    "rotation($self)\n--\n\n"                                                            \
    "The random rotation of the codes, as a value to compare: indexes with equal\n"      \
    "rotations code alike. Rotation(dim, padded_dim, seed)."

#define DOC_DIM "Dimension of the vectors."
#define DOC_METRIC "'l2', 'ip' or 'cosine'."
#define DOC_SEED "Seed given to `build`."
#define DOC_EPSILON "Width of the error bound of searches that name none."
#define DOC_RERANK_FACTOR                                                                \
    "Least share of exact checks of searches that name none, or None."
#define DOC_ORIGINALS "How vectors are kept: 'f32' or 'f16'; None without vectors."
#define DOC_BITS "Bits of a code per dimension."
#define DOC_LISTS "Number of lists the codes are held in."
#define DOC_DEFAULT_NPROBE "Lists that searches look into which name no number, or 'all'."
#define DOC_MEMORY "Bytes allocated or mapped; `memory_usage` splits them."
#define DOC_IDS "Ids in insertion order, a new (n,) uint64 array."
#define DOC_VERSION                                                                      \
    "A number for the rows as they are: it grows with every change of them, and no "     \
    "other\n"                                                                            \
    "index of the process has it. For `allow_version`; not kept in files."
#define DOC_NORMS "Euclidean norms of the vectors, a new (n,) float32 array."
#define DOC_CODES                                                                        \
    "Codes, a new (n, bits * padded_dim / 8) uint8 array.\n\n"                           \
    "A row is `bits` planes of padded_dim / 8 bytes, the sign first, then from the\n"    \
    "highest bit down. In each, bit j % 8 (from the lowest) of byte j // 8 belongs to\n" \
    "dimension j of the rotated vector less the center of its list. The bits of a\n"     \
    "dimension, read together, are a number x that stands for a coordinate in\n"         \
    "proportion to x - (2**bits - 1) / 2."
