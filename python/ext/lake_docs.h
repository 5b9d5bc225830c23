/*
 * lake_docs.h - docstrings of the lake's classes written in C.
 */

#define DOC_KEY                                                                          \
    "key: (backend, collection), or the name of a collection that stands for one.\n"

/* ---- searches --------------------------------------------------------------- */

#define DOC_BACKEND_ARG "backend: whose collection; may be left out if only one has it.\n"
#define DOC_CACHED_ONLY                                                                  \
    "cached_only: raise CacheMissError rather than pull the collection.\n"

#define DOC_SEARCH_ONE                                                                   \
    "search_one($self, collection, query, k=10, *, backend=None, cached_only=False)\n"   \
    "--\n\n"                                                                             \
    "The k vectors of a collection nearest to the query, best first.\n\n"                \
    "The collection is pulled and indexed first if it is not in the cache, or not\n"     \
    "up to date in the sense of the lake's consistency.\n\n"                             \
    "query: (dim,) or (1, dim), any real dtype, finite; searched as float32.\n"          \
    "k: at least 1.\n" DOC_BACKEND_ARG DOC_CACHED_ONLY                                   \
    "\nReturns a list of LakeHit(backend, collection, id, score), the score being the\n" \
    "squared distance. Raises UnknownCollection, BackendError, LakeDimensionMismatch,\n" \
    "EmptyCollection, CacheMissError, ValueError, TypeError."

#define DOC_LAKE_SEARCH_BATCH                                                            \
    "search_batch($self, collection, queries, k=10, *, backend=None,\n"                  \
    "             cached_only=False, progress=None)\n"                                   \
    "--\n\n"                                                                             \
    "For each query what `search_one` finds: a list of lists of hits.\n\n"               \
    "The collection is brought up to date once, and all queries see that one state.\n\n" \
    "queries: (m, dim), or (dim,) for one, any real dtype, finite; searched as "         \
    "float32.\n"                                                                         \
    "k: at least 1.\n" DOC_BACKEND_ARG DOC_CACHED_ONLY                                   \
    "progress: function (done, total), in rows while the index is built, then in\n"      \
    "    queries. An exception it raises stops the call, and so does Ctrl-C.\n\n"        \
    "Raises what `search_one` raises."

#define DOC_SEARCH_FEDERATED                                                             \
    "search_federated($self, collection=None, query=None, k=10, *, targets=None,\n"      \
    "                 per_shard_rerank=None, cached_only=False)\n"                       \
    "--\n\n"                                                                             \
    "The k nearest vectors of several collections, best first.\n\n"                      \
    "collection: searched in every backend that lists it, in the order they were\n"      \
    "    registered; or\n"                                                               \
    "targets: keys (backend, collection), each searched once; none gives no hits.\n"     \
    "query: (dim,) or (1, dim), any real dtype, finite; searched as float32.\n"          \
    "k: at least 1. Of several shards each is asked for somewhat more.\n"                \
    "per_shard_rerank: the rerank factor in each, 1..1024; None divides the lake's\n"    \
    "    among the shards, but gives each at least 5.\n" DOC_CACHED_ONLY                 \
    "\nReturns a list of LakeHit; equal scores come in the order of the shards. A\n"     \
    "collection without vectors adds nothing. An error in any shard is an error of "     \
    "the\n"                                                                              \
    "call. Raises what `search_one` raises."

/* ---- cache ------------------------------------------------------------------ */

#define DOC_PRIME                                                                        \
    "prime($self, key, *, progress=None)\n--\n\n"                                        \
    "Bring a collection into the cache, or up to date; returns its witness.\n\n" DOC_KEY \
    "progress: function (rows_done, rows_total) of the build. An exception it raises\n"  \
    "    stops it, and so does Ctrl-C.\n\n"                                              \
    "The backend is asked, whatever the consistency. Raises UnknownCollection,\n"        \
    "BackendError."

#define DOC_INVALIDATE                                                                   \
    "invalidate_cache($self, key, /)\n--\n\n"                                            \
    "Forget what is cached for a key. Nothing happens if there is nothing."

#define DOC_WITNESS_OF                                                                   \
    "cache_witness_of($self, key, /)\n--\n\n"                                            \
    "The witness of the state cached for a key: 64 hex digits, or None."

#define DOC_ENTRY_COUNT                                                                  \
    "cache_entry_count($self, /)\n--\n\n"                                                \
    "How many states are in the cache."

#define DOC_REFCOUNT_OF                                                                  \
    "cache_refcount_of($self, witness, /)\n--\n\n"                                       \
    "How many keys share the state of this witness; 0 if it is not in the cache."

#define DOC_BACKEND_IDS                                                                  \
    "backend_ids($self, /)\n--\n\n"                                                      \
    "Ids of the backends, in the order they were registered."

/* ---- files ------------------------------------------------------------------ */

#define DOC_PUBLISH                                                                      \
    "publish_bundle($self, key, out_dir, *, pii_policy=None, lineage_id=None,\n"         \
    "               memory_class=None)\n"                                                \
    "--\n\n"                                                                             \
    "Write what a collection's backend says about it now; returns the "                  \
    "witness.\n\n" DOC_KEY                                                               \
    "out_dir: gets the file RuLakeBundle.SIDECAR_FILENAME, atomically; made if need\n"   \
    "    be.\n"                                                                          \
    "pii_policy, lineage_id, memory_class: texts that are passed on, at most 4096\n"     \
    "    bytes each; the witness does not cover them.\n\n"                               \
    "Nothing is pulled, and the cache stays as it is. Raises UnknownCollection,\n"       \
    "BackendError, LakeFileError."

/* ---- backends --------------------------------------------------------------- */

#define DOC_LOCAL                                                                        \
    "LocalBackend(name)\n--\n\n"                                                         \
    "Named collections of vectors in memory.\n\n"                                        \
    "Lakes and threads may share one. Every change of a collection counts its\n"         \
    "generation up by one. `name` is its id in a lake. It and a collection's name "      \
    "have\n"                                                                             \
    "at most 4096 bytes as local://name/collection; a longer one is a LakeValueError."

#define DOC_ROWS                                                                         \
    "ids: n integers in 0..2^64-2.\n"                                                    \
    "vectors: (n, dim) float32, C-contiguous, finite; lists and tuples are copied.\n"

#define DOC_LOCAL_UPSERT                                                                 \
    "upsert($self, /, collection, ids, vectors)\n--\n\n"                                 \
    "Replace the rows with these ids where they stand, append the others.\n\n" DOC_ROWS  \
    "\nThe collection is made if need be; of an id given twice the last row counts.\n"   \
    "Raises LakeDimensionMismatch, LakeValueError, TypeError; then nothing has changed."

#define DOC_LOCAL_PUT                                                                    \
    "put_collection($self, /, collection, ids, vectors)\n--\n\n"                         \
    "Make or replace a collection.\n\n" DOC_ROWS                                         \
    "\nThe dimension may change. An id may stand twice; both rows can then be found."

#define DOC_LOCAL_APPEND                                                                 \
    "append($self, /, collection, id, vector)\n--\n\n"                                   \
    "Add one row at the end of a collection.\n\n"                                        \
    "vector: (dim,) float32. An id that is there already then stands twice. Raises\n"    \
    "UnknownCollection, LakeDimensionMismatch."

#define DOC_LOCAL_REMOVE                                                                 \
    "remove($self, /, collection, ids)\n--\n\n"                                          \
    "Remove the rows with these ids, one int or several; returns how many there were.\n" \
    "\nUnknown ids are ignored, negative ones too; repeated zeros and ones are flags, "  \
    "a\n"                                                                                \
    "ValueError. Raises UnknownCollection."

#define DOC_LIST_COLLECTIONS "list_collections($self, /)\n--\n\nNames of the collections."
#define DOC_GENERATION                                                                   \
    "generation($self, collection, /)\n--\n\n"                                           \
    "A number that changes when the collection does. Raises UnknownCollection."
#define DOC_PULL_VECTORS                                                                 \
    "pull_vectors($self, collection, /)\n--\n\n"                                         \
    "A copy of the present state, a PulledBatch. Raises UnknownCollection."
#define DOC_CURRENT_BUNDLE                                                               \
    "current_bundle($self, /, collection, rotation_seed, rerank_factor)\n--\n\n"         \
    "The RuLakeBundle of the present state. Raises UnknownCollection."
#define DOC_BACKEND_ID "The name given, by which a lake knows the backend."

#define DOC_FS                                                                           \
    "FsBackend(name, root, *, follow_links=False)\n--\n\n"                               \
    "Collections in files of the form ruvec1, in one directory.\n\n"                     \
    "root: the directory, made if need be. A relative one makes witnesses depend on\n"   \
    "    where the process runs.\n"                                                      \
    "follow_links: read files through symbolic links, which are refused otherwise.\n\n"  \
    "Nothing is discovered: `register` or `write` names the file of each collection."

#define DOC_FS_REGISTER                                                                  \
    "register($self, /, collection, filename)\n--\n\n"                                   \
    "Name the file of a collection, which may come later.\n\n"                           \
    "Raises BackendError if it is not a plain file name."

#define DOC_FS_WRITE                                                                     \
    "write($self, /, collection, filename, ids, vectors)\n--\n\n"                        \
    "Write a collection's file, atomically, register it, return its path.\n\n" DOC_ROWS  \
    "\nRaises BackendError if it cannot be written."
