// What threads and small programs need to touch session trees, without loading the rest of the package: the whole of
// it takes half a second to load, this a few milliseconds.
export { CREATE_FLAGS, DirectoryDescriptor, READ_FLAGS } from "./session-tree-directory.ts";
export { errnoOf } from "./session-tree-errors.ts";
