import java.net.URI;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;

/** Local files at plain:/…, without permissions: Hadoop starts a chmod for each file, which costs more than all else. */
public class PlainFiles extends RawLocalFileSystem {
    @Override
    public URI getUri() {
        return URI.create("plain:///");
    }

    @Override
    public String getScheme() {
        return "plain";
    }

    @Override
    public void setPermission(Path path, FsPermission permission) {}
}
