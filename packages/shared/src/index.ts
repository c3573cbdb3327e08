export { LongshoreError } from "./errors.ts";
export {
  type CreateFileOptions,
  type CreateOptions,
  type OpenTreeFile,
  SessionTree,
  type TreeEntry,
  type TreeEntryType,
  type TreeOwner,
} from "./session-tree.ts";
export { CREATE_FLAGS, DirectoryDescriptor, NAME_FLAGS, READ_FLAGS } from "./session-tree-directory.ts";
export {
  errnoOf,
  PathExistsError,
  PathNotFoundError,
  TreeIoError,
  TreeLimitError,
  treeErrorOf,
  UnsafePathError,
  type UnsafePathReason,
} from "./session-tree-errors.ts";
export {
  NAME_BYTES_MAX,
  PATH_BYTES_MAX,
  sessionPathOfApi,
  sessionPathOfTool,
  showPath,
  splitTreePath,
  type TreePath,
} from "./session-tree-paths.ts";
